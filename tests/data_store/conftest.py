"""Small data sets made on the fly; nothing here needs the network or the real data."""

import io
from collections.abc import Callable, Iterator
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
