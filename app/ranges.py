"""Requests for a part of a file, answered as RFC 9110 (section 14) has it and with our problems.

Starlette sends the parts; of what it refuses it tells in plain text, and it refuses too much.
"""

import re

from starlette.datastructures import Headers
from starlette.responses import FileResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ProblemResponse
from problems import Problem

_RANGE = r"(?:\d{1,18}-\d{0,18}|-\d{1,18})"
_BYTES = re.compile(rf"bytes=[ \t]*{_RANGE}(?:[ \t]*,[ \t]*{_RANGE})*", re.IGNORECASE)
_CLOSED = re.compile(r"(\d+)-(\d+)")


class Ranges:
    """Around what sends files. A `Range` in an unknown unit, or of no form, is as good as none;
    one past the end of the file is the problem range_not_satisfiable.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        asked = Headers(scope=scope).get("range")
        if asked is None:
            await self.app(scope, receive, send)
            return
        if not _is_understood(asked):
            headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
            await self.app({**scope, "headers": headers}, receive, send)
            return
        refused: str | None = None

        async def unless_refused(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] == 416:
                refused = Headers(raw=message["headers"])["content-range"]
            if refused is None:
                await send(message)

        await self.app(scope, receive, unless_refused)
        if refused is not None:
            length = refused.removeprefix("bytes */")
            problem = Problem("range_not_satisfiable", f"The file has {length} bytes.")
            response = ProblemResponse(problem, headers={"Content-Range": refused})
            await response(scope, receive, send)


class Download(FileResponse):
    """A file, or the parts of it that are asked for."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await Ranges(super().__call__)(scope, receive, send)


def _is_understood(asked: str) -> bool:
    if _BYTES.fullmatch(asked.strip()) is None:
        return False
    return all(int(first) <= int(last) for first, last in _CLOSED.findall(asked))
