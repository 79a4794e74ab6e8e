"""How problems leave the server: RFC 9457 documents, and what OpenAPI says of them.

Every error of whatever origin becomes a `Problem` here. Knows no endpoint.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app import examples, logs, root_path, validation
from app.operation import Operation
from database import engine
from problems import KINDS, Problem

MEDIA_TYPE = "application/problem+json"

log = logging.getLogger(__name__)

# What any request may meet, so that no operation has to say it.
_EVERYWHERE = (
    "unknown_parameter",
    "invalid_request",
    "internal",
    "database_unavailable",
    "disk_full",
)

_SOON = {"Retry-After": "1"}
_HEADERS: Mapping[str, Mapping[str, str]] = {
    "overloaded": _SOON,
    "not_ready": _SOON,
    "database_unavailable": _SOON,
    "key_missing": {"WWW-Authenticate": "Bearer"},
    "key_wrong": {"WWW-Authenticate": "Bearer"},
    "request_too_slow": {"Connection": "close"},
}


class FieldErrorRead(BaseModel):
    """One wrong field."""

    loc: list[str | int]
    msg: str


class ProblemRead(BaseModel):
    """An error, as RFC 9457 has it. `code` never changes its meaning; `hint` says what to do."""

    model_config = ConfigDict(title="Problem", json_schema_extra={"examples": [examples.PROBLEM]})

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str | None
    errors: list[FieldErrorRead]
    request_id: str = Field(description="As in `X-Request-Id` and in the server's log.")


class ProblemResponse(Response):
    """A problem as a response; `extra` are members that RFC 9457 calls extensions."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        problem: Problem,
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        request_id = logs.request_id.get()
        self._document = {
            "type": f"/docs/errors/{problem.code}",
            "title": problem.kind.title,
            "status": problem.status,
            "detail": problem.detail,
            "code": problem.code,
            "hint": problem.hint,
            "errors": problem.errors,
            **({"request_id": request_id} if request_id else {}),
            **(extra or {}),
        }
        of_code = _HEADERS.get(problem.code, {})
        super().__init__(self._document, problem.status, {**of_code, **(headers or {})})

    def render(self, content: Any) -> bytes:
        """The document in bytes."""
        # A field name in a request may hold half a surrogate pair, which UTF-8 cannot say.
        return json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Below a path, `type` leads there."""
        if below := root_path.of(scope):
            page = f"{below}{self._document['type']}"
            self.body = self.render({**self._document, "type": page})
            self.headers["Content-Length"] = str(len(self.body))
        await super().__call__(scope, receive, send)


def install(app: FastAPI) -> None:
    """Makes every error of the app a problem document."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(OperationalError, _on_database)
    app.add_exception_handler(DatabaseError, _on_damage)
    app.add_exception_handler(NoConnectionFree, _on_database)


def responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation that may raise these codes; what all may raise is added."""
    return _by_status(*codes, *_EVERYWHERE)


def responses_of_door(method: str, *, is_open: bool, has_body: bool) -> dict[str, dict[str, Any]]:
    """What keeps a request out before its operation sees it, as the OpenAPI document has it."""
    codes = ["host_refused"]
    if not is_open:
        codes += ["key_missing", "key_wrong", "proxy_without_key"]
        codes += [] if method == "get" else ["origin_refused"]
    codes += ["request_too_slow"] if has_body else []
    return {str(status): response for status, response in _by_status(*codes).items()}


def _by_status(*codes: str) -> dict[int | str, dict[str, Any]]:
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(KINDS[code].status, []).append(code)
    return {status: _response(found) for status, found in sorted(by_status.items())}


def _response(codes: list[str]) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": " · ".join(map(_in_a_line, codes)),
        "content": {MEDIA_TYPE: {"schema": schema, "example": _example(codes[0])}},
    }


def _in_a_line(code: str) -> str:
    """With a link that leads from /docs and /redoc to the page about the code."""
    return f"[`{code}`](docs/errors/{code}): {KINDS[code].title}"


def _example(code: str) -> dict[str, Any]:
    kind = KINDS[code]
    return {
        "type": f"/docs/errors/{code}",
        "title": kind.title,
        "status": kind.status,
        "detail": f"{kind.title}.",
        "code": code,
        "hint": kind.hint,
        "errors": [],
        "request_id": "req_5f2d9c0e7ab14c36",
    }


async def _on_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return ProblemResponse(error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return ProblemResponse(validation.problem(Operation.of(request), error.errors()))


async def _on_http(request: Request, error: Exception) -> Response:
    """What Starlette and FastAPI raise themselves: no such address or method, unreadable body."""
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, Problem):  # the body limit, met while FastAPI read the body
        return ProblemResponse(error.__cause__)
    headers = dict(error.headers or {})
    if error.status_code == 405 and (methods := Operation.methods(request)):
        # Starlette names the methods of the first route of that address, not those of all.
        headers["Allow"] = ", ".join(methods)
    return ProblemResponse(_of_status(request, error, headers), headers=headers)


async def _on_database(request: Request, error: Exception) -> Response:
    """Locked, full, read-only, or away. The log has the driver's words; SQL and paths stay here."""
    reason = getattr(error, "orig", None) or error
    log.error("%s %s: the database does not answer: %s", request.method, request.url.path, reason)
    if engine.is_full(error):
        return ProblemResponse(Problem("disk_full", "There is no space left to write this down."))
    if engine.disk_refuses(error):  # reading still works as a rule, so /readyz sees nothing of it
        detail = "The disk of the database does not take this."
        hint = "danlu doctor, on the machine of the server, says what is wrong."
        return ProblemResponse(Problem("database_unavailable", detail, hint=hint))
    return ProblemResponse(Problem("database_unavailable", "The database does not answer now."))


async def _on_damage(request: Request, error: Exception) -> Response:
    """Every other error of a statement is ours."""
    if not engine.is_damaged(error):
        raise error
    reason = getattr(error, "orig", error)
    log.error("%s %s: the database is damaged: %s", request.method, request.url.path, reason)
    hint = "danlu doctor, on the machine of the server, says what to do."
    return ProblemResponse(Problem("database_unavailable", "The database is damaged.", hint=hint))


def _of_status(request: Request, error: HTTPException, headers: Mapping[str, str]) -> Problem:
    path = request.url.path
    if error.status_code == 404:
        return Problem("not_found", f"There is nothing at {path[:200]}.")
    if error.status_code == 405:
        return Problem(
            "method_not_allowed",
            f"{path[:200]} does not take {request.method[:20]}.",
            hint=f"It takes {headers.get('Allow', 'another method')}.",
        )
    if error.status_code == 400:
        deep = isinstance(error.__cause__, RecursionError)
        reason = "is nested too deep to be read" if deep else "cannot be parsed as JSON"
        return Problem("invalid_json", f"The body {reason}.")
    return Problem("internal", str(error.detail))
