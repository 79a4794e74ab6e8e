"""What surrounds every request: its id, the size of its body, and the last resort for errors.

Plain ASGI; knows no endpoint but `/predict`, whose bodies carry images.
"""

import logging
import re
import secrets
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ProblemResponse
from problems import Problem
from settings import Settings

log = logging.getLogger(__name__)

# Images that one body may hold at their largest size: 64 of them would be 1.6 GB of memory.
IMAGES_AT_MOST = 8
_MULTIPART_OVERHEAD = 100_000
_PRINTABLE = re.compile(r"[\x21-\x7e]{1,128}")


def predict_body_bytes(settings: Settings) -> int:
    """Largest body of `POST /predict`: 200 MB unless set otherwise."""
    return IMAGES_AT_MOST * settings.max_image_bytes + _MULTIPART_OVERHEAD


class RequestIds:
    """`X-Request-Id` on every response: the caller's when it is short and printable, else ours."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        theirs = Headers(scope=scope).get("x-request-id", "")
        request_id = theirs if _PRINTABLE.fullmatch(theirs) else f"req_{secrets.token_hex(8)}"

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        scope.setdefault("state", {})["request_id"] = request_id
        await self.app(scope, receive, send_with_id)


class LastResort:
    """Answers what nobody foresaw with `internal`; the traceback goes to the log, never out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Raises again when part of a response is out already."""
        started = False

        async def note_start(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, note_start)
        except ClientDisconnect:
            log.info("%s %s: the client went away", scope["method"], scope["path"])
        except Exception as error:
            if scope["type"] != "http" or started:
                raise
            request_id = scope["state"]["request_id"]
            log.exception("%s %s failed (%s)", scope["method"], scope["path"], request_id)
            detail = f"{HTTPStatus.INTERNAL_SERVER_ERROR.phrase}: {type(error).__name__}."
            await ProblemResponse(Problem("internal", detail))(scope, receive, send)


class BodyLimit:
    """Refuses a body that is too large: at once when it says so, else when the bytes are in.

    Nothing past the limit is kept, in memory or on disk.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self.app = app
        self._most = settings.max_body_bytes
        self._most_with_images = predict_body_bytes(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most = self._most_with_images if scope["path"] == "/predict" else self._most
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > most:
            await ProblemResponse(_too_large(most))(scope, receive, send)
            return
        received = 0

        async def receive_some() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
                raise _too_large(most)
            return message

        await self.app(scope, receive_some, send)


def _too_large(most: int) -> Problem:
    return Problem(
        "body_too_large",
        f"The body is larger than {most:,} bytes.",
    )
