"""Web servers on this machine that serve files well or badly."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NoReturn

from data_store.patience import Patience

NOBODY = "http://127.0.0.1:9/"  # the discard port: refused at once
# As the real one, and thirty times faster. Nobody is slow: a machine that stands still makes
# everybody so.
SOON = Patience(
    connect_seconds=2.0,
    silent_seconds=1.0,
    window_seconds=0.4,
    slow=0,
    least=500,
    pause_seconds=0.0,
)


def no_such_name(*_: Any, **__: Any) -> NoReturn:
    """In place of `socket.getaddrinfo`: the real one may ask somebody, who thinks for seconds."""
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@dataclass
class Mirror:
    """A server: `files` by path. It gives `after` bytes of an answer well, then does its worst."""

    files: dict[str, bytes] = field(default_factory=dict)
    after: int = 0
    then: Literal["all", "stall", "cut", "trickle"] = "all"
    lies: bool = False
    ranges: bool = True
    length: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    status: int | None = None
    url: str = ""
    asked: list[tuple[str, int]] = field(default_factory=list)  # path, first byte
    leaving: threading.Event = field(default_factory=threading.Event)
    instead: Callable[[BaseHTTPRequestHandler], None] | None = None  # of `answer`

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        begin = int((re.findall(r"bytes=(\d+)-", to.headers.get("Range", "")) or ["0"])[0])
        self.asked.append((to.path, begin))
        data = self.files.get(to.path)
        if data is None or self.status:
            to.send_error(self.status or 404)
            return
        begin = begin if self.ranges else 0
        if begin >= len(data):
            to.send_error(416)
            return
        to.send_response(206 if begin else 200)
        if begin:
            to.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        if self.length:
            to.send_header("Content-Length", str(len(data) - begin))
        for name, value in self.headers.items():
            to.send_header(name, value)
        to.end_headers()
        self._give(to, data[begin:])

    def _give(self, to: BaseHTTPRequestHandler, data: bytes) -> None:
        if self.lies:
            data = bytes(255 - byte for byte in data)
        to.wfile.write(data[: self.after] if self.then != "all" else data)
        to.wfile.flush()
        if self.then == "stall":
            self.leaving.wait()
        for at in range(self.after, len(data)) if self.then == "trickle" else ():
            if self.leaving.wait(0.02):
                break
            to.wfile.write(data[at : at + 1])


@contextmanager
def served(mirror: Mirror) -> Iterator[Mirror]:
    """The server runs inside; its address is `mirror.url`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            (mirror.instead or mirror.answer)(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # it is hung up on
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    mirror.url = f"http://127.0.0.1:{server.server_port}/"
    try:
        yield mirror
    finally:
        mirror.leaving.set()
        server.shutdown()
        server.server_close()
        thread.join()
