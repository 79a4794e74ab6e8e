"""Small data sets made on the fly; nothing here needs the network or the real data."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image


def png(value: int = 0, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> bytes:
    """A PNG of one shade, `size` being (width, height)."""
    file = io.BytesIO()
    Image.new(mode, size, value if mode == "L" else (value,) * 3).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(name="png")
def _png() -> Callable[..., bytes]:
    return png


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes files below `tmp_path/root`, a path per keyword or dict entry, and gives that root."""

    def write(files: dict[str, bytes]) -> Path:
        root = tmp_path / "root"
        for path, data in files.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return root

    return write


@pytest.fixture
def idx() -> Callable[[np.ndarray], bytes]:
    """An array of bytes as an idx file, as MNIST's are."""

    def idx(array: np.ndarray) -> bytes:
        shape = b"".join(side.to_bytes(4, "big") for side in array.shape)
        return bytes([0, 0, 8, array.ndim]) + shape + array.astype(np.uint8).tobytes()

    return idx


@pytest.fixture
def mnist_files(idx: Callable[[np.ndarray], bytes]) -> dict[str, bytes]:
    """MNIST as torchvision unpacks it, with 20 training and 10 test images."""
    rng = np.random.default_rng(0)
    files = {}
    for prefix, count in (("train", 20), ("t10k", 10)):
        images = rng.integers(0, 256, (count, 28, 28))
        files[f"MNIST/raw/{prefix}-images-idx3-ubyte"] = idx(images)
        files[f"MNIST/raw/{prefix}-labels-idx1-ubyte"] = idx(np.arange(count) % 10)
    return files


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, dict[str, bytes], list[str]]]:
    """A web server on this machine: its address, what it serves (fill it), and what was asked."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    files: dict[str, bytes] = {}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path not in files:
                self.send_error(404)
                return
            self.send_response(200)
            if self.path.endswith(".gz"):  # as some real servers mislabel them
                self.send_header("Content-Encoding", "x-gzip")
            self.end_headers()
            self.wfile.write(files[self.path])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", files, asked
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def zipped(tmp_path: Path) -> Callable[..., Path]:
    """A zip of some files, with names in an `encoding` that it does not tell, if one is given."""

    def zipped(
        files: dict[str, bytes],
        *,
        method: int = zipfile.ZIP_DEFLATED,
        encoding: str | None = None,
    ) -> Path:
        raw = {name: name.encode(encoding or "utf-8") for name in files}
        memory = io.BytesIO()
        with zipfile.ZipFile(memory, "w", method) as packed:
            for number, (name, data) in enumerate(files.items()):
                stand_in = f"\x01{number:0{len(raw[name]) - 2}}\x02" if encoding else name
                packed.writestr(zipfile.ZipInfo(stand_in), data, method)
        written = memory.getvalue()
        for number, name in enumerate(raw.values() if encoding else ()):
            written = written.replace(f"\x01{number:0{len(name) - 2}}\x02".encode(), name)
        path = tmp_path / "archive"
        path.write_bytes(written)
        return path

    return zipped


@pytest.fixture
def tarred(tmp_path: Path) -> Callable[..., Path]:
    """A tar of some files, and of entries that are made already."""

    def tarred(
        files: dict[str, bytes],
        *,
        compression: str = "",
        format: int = tarfile.PAX_FORMAT,
        entries: Iterable[tarfile.TarInfo] = (),
    ) -> Path:
        path = tmp_path / "archive"
        with tarfile.open(path, f"w:{compression}", format=format) as packed:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                packed.addfile(member, io.BytesIO(data))
            for member in entries:
                packed.addfile(member)
        return path

    return tarred
