"""How problems leave the server: RFC 9457 documents, and what OpenAPI says of them.

Every error of whatever origin becomes a `Problem` here. Knows no endpoint.
"""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app import examples, validation
from app.operation import Operation
from problems import KINDS, Problem

MEDIA_TYPE = "application/problem+json"

# What any request may meet, so that no operation has to say it.
_EVERYWHERE = ("unknown_parameter", "invalid_request", "internal")


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
        document = {
            "type": f"/docs/errors/{problem.code}",
            "title": problem.kind.title,
            "status": problem.status,
            "detail": problem.detail,
            "code": problem.code,
            "hint": problem.hint,
            "errors": problem.errors,
            **(extra or {}),
        }
        # A field name in a request may hold half a surrogate pair, which UTF-8 cannot say.
        content = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
        retry = {"Retry-After": "1"} if problem.code in ("overloaded", "not_ready") else {}
        super().__init__(content, problem.status, {**retry, **(headers or {})})


def install(app: FastAPI) -> None:
    """Makes every error of the app a problem document."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)


def responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation that may raise these codes; what all may raise is added."""
    by_status: dict[int, list[str]] = {}
    for code in (*codes, *_EVERYWHERE):
        by_status.setdefault(KINDS[code].status, []).append(code)
    return {status: _response(found) for status, found in sorted(by_status.items())}


def _response(codes: list[str]) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    examples = {code: {"value": _example(code)} for code in codes}
    return {
        "description": " · ".join(f"`{code}`: {KINDS[code].title}" for code in codes),
        "content": {MEDIA_TYPE: {"schema": schema, "examples": examples}},
    }


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
    return ProblemResponse(_of_status(request, error), headers=error.headers)


def _of_status(request: Request, error: HTTPException) -> Problem:
    path = request.url.path
    if error.status_code == 404:
        return Problem("not_found", f"There is nothing at {path[:200]}.")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return Problem(
            "method_not_allowed",
            f"{path[:200]} does not take {request.method[:20]}.",
            hint=f"It takes {allowed}.",
        )
    if error.status_code == 400:
        return Problem("invalid_json", "The body cannot be parsed as JSON.")
    return Problem("internal", str(error.detail))
