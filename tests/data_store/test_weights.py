"""Weights from a server on this machine: checksum, patience, and none that answers."""

import errno
import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic

import pytest

from data_store import durable, weights
from data_store.weights import Wanted
from problems import Problem

Served = tuple[str, dict[str, bytes], list[str]]
DATA = os.urandom(300_000)
NOBODY = "http://127.0.0.1:9/"  # the discard port: refused at once


def wanted(address: str, data: bytes = DATA) -> Wanted:
    checksum = hashlib.sha256(data).hexdigest()[:8]
    name = f"net-{checksum}.pth"
    return Wanted(name=name, url=address + name, sha256=checksum, bytes=len(data))


def nothing(phase: str, done: int, total: int) -> None:
    pass


def unavailable(one: Wanted, folder: Path, **how: float) -> Problem:
    with pytest.raises(Problem) as caught:
        weights.fetch(one, folder, nothing, **how)
    assert (caught.value.code, caught.value.status) == ("weights_unavailable", 503)
    assert not list(folder.glob("*.part"))
    return caught.value


@pytest.fixture
def trickling() -> Iterator[str]:
    """A server that gives a byte now and then, and never comes to an end."""
    leaving = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            while not leaving.wait(0.02):
                self.wfile.write(b"x")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # it is hung up on
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    leaving.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_file_is_fetched_and_found_again(served: Served, tmp_path: Path) -> None:
    address, files, asked = served
    one = wanted(address)
    files[f"/{one.name}"] = DATA
    told: list[tuple[str, int, int]] = []

    path = weights.fetch(one, tmp_path / "weights", lambda *call: told.append(call))

    assert path == tmp_path / "weights" / one.name
    assert path.read_bytes() == DATA
    assert told[0] == ("downloading", 0, len(DATA))
    assert told[-1] == ("downloading", len(DATA), len(DATA))
    assert weights.find(one, [tmp_path / "elsewhere", tmp_path / "weights"]) == path
    assert len(asked) == 1


def test_only_the_right_file_is_found(tmp_path: Path) -> None:
    one = wanted(NOBODY)
    assert weights.find(one, [tmp_path]) is None
    (tmp_path / one.name).write_bytes(DATA[:-1])
    assert weights.find(one, [tmp_path]) is None
    assert "; the one that is there is another" in unavailable(one, tmp_path).hint
    (tmp_path / one.name).write_bytes(DATA)
    assert weights.find(one, [tmp_path]) == tmp_path / one.name


def test_another_file_is_not_taken(served: Served, tmp_path: Path) -> None:
    address, files, _ = served
    one = wanted(address)
    files[f"/{one.name}"] = DATA[::-1]
    assert "its sha256 is wrong" in unavailable(one, tmp_path).detail
    files[f"/{one.name}"] = DATA * 10  # it is not even read to its end
    assert "its sha256 is wrong" in unavailable(one, tmp_path).detail
    assert list(tmp_path.iterdir()) == []


def test_nobody_answers(served: Served, tmp_path: Path) -> None:
    assert "404 Not Found" in unavailable(wanted(served[0]), tmp_path).detail
    one = wanted(NOBODY)
    problem = unavailable(one, tmp_path)
    assert "ConnectError" in problem.detail
    assert problem.hint.startswith(f"Put {one.name} (about 0 MB, sha256 {one.sha256}…)")
    assert one.url in problem.hint
    assert str(tmp_path) in problem.hint


def test_a_machine_without_internet_fails_at_once(tmp_path: Path) -> None:
    began = monotonic()
    assert "ConnectError" in unavailable(wanted("http://example.invalid/"), tmp_path).detail
    assert monotonic() - began < 4


def test_a_name_service_that_says_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaving = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: leaving.wait(30))
    began = monotonic()
    problem = unavailable(wanted("http://example.invalid/"), tmp_path, connect_seconds=0.1)
    leaving.set()
    assert "the name example.invalid was not found" in problem.detail
    assert monotonic() - began < 4


def test_a_slow_server_is_given_up_in_time(
    trickling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert "too slow" in unavailable(wanted(trickling), tmp_path, seconds=0.1).detail


def test_a_proxy_looks_names_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", NOBODY)
    monkeypatch.setattr(weights.threading, "Thread", None)  # nobody is to be asked
    unavailable(wanted("http://example.invalid/"), tmp_path)


def test_stopped_on_the_way(served: Served, tmp_path: Path) -> None:
    address, files, _ = served
    one = wanted(address)
    files[f"/{one.name}"] = DATA

    def stop(phase: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        weights.fetch(one, tmp_path, stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, "disk_full"), (errno.EACCES, "weights_unavailable")],
)
def test_a_disk_that_takes_nothing(
    number: int, code: str, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, files, _ = served
    one = wanted(address)
    files[f"/{one.name}"] = DATA

    @contextmanager
    def refuses(_: Path) -> Iterator[None]:
        raise OSError(number, os.strerror(number))
        yield

    monkeypatch.setattr(durable, "replacing", refuses)
    with pytest.raises(Problem) as caught:
        weights.fetch(one, tmp_path, nothing)
    assert caught.value.code == code
