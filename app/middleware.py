"""What surrounds every request: its id, safe headers, how its body comes, a last resort for errors.

Plain ASGI; knows no endpoint but those whose bodies carry uploads. Who may come in is
`app.door`'s to say. What messages pass through are no coroutines where it can be: every microsecond
here is one of every prediction.
"""

import asyncio
import itertools
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import logs, root_path
from app.errors import ProblemResponse
from app.tallies import GONE, Requests
from problems import Problem
from settings import Settings

log = logging.getLogger(__name__)

# Images that one body may hold at their largest size: 64 of them would be 1.6 GB of memory.
IMAGES_AT_MOST = 8
_MULTIPART_OVERHEAD = 100_000
_FORM_OVERHEAD = 4_000_000  # beside weights: layers, and the names of many classes
BODY_SECONDS = 30.0
"""Seconds without a byte after which a body is given up."""
_PUT_DATASET = re.compile("PUT /datasets/[^/]+", re.DOTALL)
_PRINTABLE = re.compile(r"[\x21-\x7e]{1,128}")

# Nothing that the server sends may be framed, sniffed, or embedded by a page of another site; what
# is no page may do nothing at all.
SAFE_HEADERS = {
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
}
_FROM_OTHER_ORIGINS = (b"cross-origin-resource-policy", b"cross-origin")


_PROCESS = secrets.token_hex(5)
_numbers = itertools.count()


def new_request_id() -> str:
    """An id of ours, which no other process has: a label for logs, and no secret.

    Counted: asking the system for random bytes hands the interpreter to another thread, which may
    keep it for milliseconds.
    """
    return f"req_{_PROCESS}{next(_numbers):08x}"


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
        request_id = theirs if _PRINTABLE.fullmatch(theirs) else new_request_id()
        encoded = request_id.encode()

        def send_with_id(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", encoded)]
            return send(message)

        # Never taken back: uvicorn logs in this task what becomes of the request in the end.
        logs.request_id.set(request_id)
        await self.app(scope, receive, send_with_id)


class SafeHeaders:
    """Headers that keep browsers from doing more with an answer than show it.

    An answer that sets one of them itself keeps its own. With a key, JSON is not to be cached.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self.app = app
        self._keyed = settings.api_key is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        def send_safely(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._more(message)]
            return send(message)

        await self.app(scope, receive, send_safely)

    def _more(self, message: Message) -> list[tuple[bytes, bytes]]:
        theirs = dict(message.get("headers", ()))
        safe = dict(SAFE_HEADERS)
        if b"access-control-allow-origin" in theirs:
            safe.update([_FROM_OTHER_ORIGINS])
        if self._keyed and b"json" in theirs.get(b"content-type", b""):
            safe[b"cache-control"] = b"no-store"
        return [(name, value) for name, value in safe.items() if name not in theirs]


class Cors(CORSMiddleware):
    """What pages of the origins in `DANLU_CORS_ORIGINS` may do; refusals are problems too."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        super().__init__(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=[
                *("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"),
                *("X-Danlu-User", "X-Request-Id"),
            ],
            expose_headers=[
                *("Idempotency-Replayed", "Location", "Retry-After", "Server-Timing"),
                "X-Request-Id",
            ],
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a browser that asks beforehand."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        problem = Problem("origin_refused", f"{bytes(answer.body).decode()}.")
        return ProblemResponse(problem, headers={"Vary": answer.headers["Vary"]})


class Counted:
    """Counts answers, and the seconds from a request's head to that of its response: what follows
    takes as long as the client takes to read. `HEAD` counts as the GET that it is answered as.
    """

    def __init__(self, app: ASGIApp, *, requests: Requests) -> None:
        self.app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        answered = False

        def send_counted(message: Message) -> Awaitable[None]:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                # By now the scope has the route; the door's refusals come before there is one.
                seconds = time.perf_counter() - began
                self._requests.answered(scope, message["status"], seconds)
            return send(message)

        await self.app(scope, receive, send_counted)
        if not answered:
            self._requests.answered(scope, GONE, 0.0)


class LastResort:
    """Answers what nobody foresaw with `internal`; the traceback goes to the log, never out. And
    what is cancelled because the server `stops` with `not_ready`.
    """

    def __init__(self, app: ASGIApp, *, stops: Callable[[], bool] = lambda: False) -> None:
        self.app = app
        self._stops = stops

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Raises again when part of a response is out already."""
        started = False

        def note_start(message: Message) -> Awaitable[None]:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            return send(message)

        try:
            await self.app(scope, receive, note_start)
        except asyncio.CancelledError:
            if scope["type"] != "http" or started or not self._stops():
                raise
            log.warning("%s %s was not done before the stop", scope["method"], scope["path"])
            await ProblemResponse(_stopped(), headers={"Connection": "close"})(scope, receive, send)
        except ClientDisconnect:
            log.info("%s %s: the client went away", scope["method"], scope["path"])
        except Exception as error:
            if scope["type"] != "http" or started:
                raise
            log.exception("%s %s failed", scope["method"], scope["path"])
            detail = f"{HTTPStatus.INTERNAL_SERVER_ERROR.phrase}: {type(error).__name__}."
            await ProblemResponse(Problem("internal", detail))(scope, receive, send)


class BodyLimit:
    """Refuses a body that is too large: at once when it says so, else when the bytes are in; and
    one that stops coming. Nothing past the limit is kept, in memory or on disk.
    """

    def __init__(
        self, app: ASGIApp, *, settings: Settings, pause_seconds: float = BODY_SECONDS
    ) -> None:
        self.app = app
        self._most = settings.max_body_bytes
        self._most_with_images = predict_body_bytes(settings)
        self._most_with_weights = settings.max_model_bytes + _FORM_OVERHEAD
        self._most_with_archive = settings.max_upload_bytes + _MULTIPART_OVERHEAD
        self._pause_seconds = pause_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most = self._most_of(scope["method"], root_path.rest(scope))
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > most:
            await ProblemResponse(_too_large(most))(scope, receive, send)
            return
        received, complete = 0, False
        in_time = _InTime(receive, self._pause_seconds)

        async def receive_some() -> Message:
            nonlocal received, complete
            if complete:  # what comes now is the end of the connection, which may be far away
                return await receive()
            message = await in_time()
            complete = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > most:
                raise _too_large(most)
            return message

        async def send_early(message: Message) -> None:
            """An upload that is refused is not waited for: it may have hours to go."""
            if message["type"] == "http.response.start" and not complete:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        is_long = most in (self._most_with_archive, self._most_with_weights)
        await self.app(scope, receive_some, send_early if is_long else send)

    def _most_of(self, method: str, path: str) -> int:
        if path == "/predict":
            return self._most_with_images
        if (method, path) == ("POST", "/checkpoints"):
            return self._most_with_weights
        if (method, path) == ("POST", "/datasets") or _PUT_DATASET.fullmatch(f"{method} {path}"):
            return self._most_with_archive
        return self._most


class _InTime:
    """The next message of a body, or `Problem` request_too_slow when none comes for so long.

    What `asyncio.timeout` does, at a third of its price: most bodies are there already.
    """

    def __init__(self, receive: Receive, seconds: float) -> None:
        self._receive = receive
        self._seconds = seconds
        self._late = False

    async def __call__(self) -> Message:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        timer = loop.call_later(self._seconds, self._expire, task)
        try:
            return await self._receive()
        except asyncio.CancelledError:
            if not self._late or task is None or task.uncancel():
                raise
            detail = f"Nothing of the body has come for {self._seconds:g} s."
            raise Problem("request_too_slow", detail) from None
        finally:
            timer.cancel()

    def _expire(self, task: asyncio.Task[Any] | None) -> None:
        self._late = True
        if task is not None:
            task.cancel()


def _stopped() -> Problem:
    hint = "Send it again when the server is back: GET /readyz says when."
    return Problem("not_ready", "The server stops, and this was not done in time.", hint=hint)


def _too_large(most: int) -> Problem:
    return Problem(
        "body_too_large",
        f"The body is larger than {most:,} bytes.",
    )
