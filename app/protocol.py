"""One connection: uvicorn's HTTP protocol, for clients that are slow, rude or half gone too.

Knows nothing of requests once their heads are read; `app.middleware` limits their bodies.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.errors import ProblemResponse
from app.middleware import SAFE_HEADERS, new_request_id
from problems import Problem


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take.

    `head_seconds` for the head of a request, of `head_bytes` about. `half_closed_seconds` until the
    answer begins, for a client that has shut its side: it looks the same when the client is gone,
    and what waits for a job must not wait on for nobody. `connections` at the same time: files,
    libraries and the database need descriptors too, so who comes last is sent away.
    """

    head_seconds: float = 30.0
    head_bytes: int = 65_536
    half_closed_seconds: float = 2.0
    connections: int = 1000


class Connection(HttpToolsProtocol):
    """uvicorn itself waits for ever for a head, takes one of any size, and hangs up on who shuts
    down their own side.
    """

    def __init__(self, *args: Any, limits: Limits, **named: Any) -> None:
        super().__init__(*args, **named)
        self._limits = limits
        self._head_due: asyncio.TimerHandle | None = None
        self._held_bytes = 0  # came since the parser last had something for us

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """asyncio."""
        super().connection_made(transport)
        self._expect_head()
        if len(self.connections) > self._limits.connections:
            transport.close()

    def data_received(self, data: bytes) -> None:
        """asyncio."""
        # Also while the rest of a refused body comes in: what follows it must come in time.
        if self._head_due is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_head()
        self._held_bytes += len(data)
        super().data_received(data)
        most = self._limits.head_bytes
        if self._held_bytes > most and not self.transport.is_closing():
            self.send_400_response(f"The head of the request is larger than {most:,} bytes.")

    def on_headers_complete(self) -> None:
        """httptools."""
        self._held_bytes = 0
        self._stop_expecting()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """httptools."""
        self._held_bytes = 0
        super().on_body(body)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """asyncio. True keeps the other direction open."""
        cycle = self.cycle
        if cycle is None or cycle.response_started or cycle.more_body:
            return None

        def give_up() -> None:
            if not cycle.response_started:
                self.transport.close()

        cycle.keep_alive = False
        self.loop.call_later(self._limits.half_closed_seconds, give_up)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio."""
        self._stop_expecting()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What comes is not HTTP. Nobody can be answered in the middle of another answer."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_not_http(msg))
        self.transport.close()

    def _expect_head(self) -> None:
        self._head_due = self.loop.call_later(self._limits.head_seconds, self.transport.close)

    def _stop_expecting(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None


def _not_http(reason: str) -> bytes:
    request_id = new_request_id()
    answer = ProblemResponse(
        Problem("malformed_request", reason),
        headers={"Connection": "close", "X-Request-Id": request_id},
        extra={"request_id": request_id},
    )
    headers = [*answer.raw_headers, *SAFE_HEADERS.items()]
    lines = [b"%s: %s\r\n" % header for header in headers]
    return b"".join([STATUS_LINE[answer.status_code], *lines, b"\r\n", bytes(answer.body)])
