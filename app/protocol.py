"""One connection: uvicorn's HTTP protocol, for clients that are slow, rude or half gone too.

Knows nothing of requests once their heads are read; `app.middleware` limits their bodies.
"""

import asyncio

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.errors import ProblemResponse
from app.middleware import SAFE_HEADERS, new_request_id
from problems import Problem

HEAD_SECONDS = 30.0
"""Seconds that a client has for the head of a request."""
HALF_CLOSED_SECONDS = 2.0
"""Seconds that an answer may take for a client that has shut its side of the connection. It looks
the same when the client is gone, and what waits for a job must not wait on for nobody.
"""


class Connection(HttpToolsProtocol):
    """uvicorn itself waits for ever for a head, and hangs up on who shuts down their own side."""

    head_seconds = HEAD_SECONDS
    _head_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """asyncio."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """asyncio."""
        # Also while the rest of a refused body comes in: what follows it must come in time.
        if self._head_due is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_head()
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """httptools."""
        self._stop_expecting()
        super().on_headers_complete()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """asyncio. True keeps the other direction open."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            return None
        cycle.keep_alive = False
        self.loop.call_later(HALF_CLOSED_SECONDS, self.transport.close)
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
        self._head_due = self.loop.call_later(self.head_seconds, self.transport.close)

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
