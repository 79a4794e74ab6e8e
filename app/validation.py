"""From what is wrong with a request to one problem that names fields as people wrote them.

Knows pydantic's kinds of errors; what an operation takes is `operation`'s to say.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import anyio.to_thread
from starlette.requests import Request

from app.operation import Operation
from problems import FieldError, Problem, did_you_mean

_SHOWN = 20  # wrong fields that are listed: a hostile body may have thousands
_NAME_LENGTH = 80
# A field that nobody knows, and one that PyTorch has and danlu sets itself.
_UNKNOWN = frozenset({"extra_forbidden", "argument_fixed"})


def problem(operation: Operation, found: Sequence[Mapping[str, Any]]) -> Problem:
    """The problem that pydantic's errors amount to; unknown fields are told before wrong values."""
    if unreadable := _unreadable_body(found[0]):
        return unreadable
    errors = [_field_error(operation, error) for error in found[:_SHOWN]]
    unknown = next((error for error in found if error["type"] in _UNKNOWN), None)
    if unknown is not None:
        return _unknown_field(operation, unknown, errors)
    where = ".".join(map(str, errors[0]["loc"][1:]))
    # What is said of one field several times are the kinds of values that it could have.
    here = [error["msg"] for error in errors if error["loc"] == errors[0]["loc"]]
    message = ", or: ".join(here)
    more = f" (and {len(found) - len(here)} more)" if len(found) > len(here) else ""
    detail = f"{where}: {message}{more}" if where else f"The body is not valid: {message}"
    return Problem("invalid_request", detail, errors=errors)


async def refuse_unknown_parameters(request: Request) -> None:
    """Raises `Problem` unknown_parameter for a query parameter that the operation does not have.

    Addresses outside the API (the documentation pages) take what comes.
    """
    if not request.query_params:
        return
    if request.app.openapi_schema is None:  # the server is not ready yet
        await anyio.to_thread.run_sync(request.app.openapi)
    operation = Operation.of(request)
    known = operation.query_parameters()
    unknown = [name for name in request.query_params if name not in known]
    if unknown and operation.is_documented:
        raise unknown_parameter(unknown, known, where="query")


def unknown_parameter(unknown: Sequence[str], known: Sequence[str], *, where: str) -> Problem:
    """The problem of names that a query or a form may not have."""
    names = [name[:_NAME_LENGTH] for name in unknown[:_SHOWN]]
    return Problem(
        "unknown_parameter",
        f"There is no parameter {names[0]!r} here.",
        hint=did_you_mean(names[0], known) or "This address takes no parameters.",
        errors=[{"loc": [where, name], "msg": "unknown parameter"} for name in names],
    )


def _unreadable_body(error: Mapping[str, Any]) -> Problem | None:
    """The body as a whole is not what it should be: no JSON, empty, or not said to be JSON."""
    if error["type"] == "json_invalid":
        reason = str(error.get("ctx", {}).get("error", "it cannot be parsed"))
        return Problem("invalid_json", f"The body is not JSON: {reason[:200]}.")
    if tuple(error["loc"]) != ("body",):
        return None
    if error["type"] == "missing":
        return Problem("invalid_json", "The body is empty.")
    if isinstance(error.get("input"), bytes):
        return Problem(
            "unsupported_media_type",
            "The body is not said to be JSON: its Content-Type is not application/json.",
            hint="Use curl --json '…', or add -H 'Content-Type: application/json'.",
        )
    return None


def _field_error(operation: Operation, error: Mapping[str, Any]) -> FieldError:
    place, _ = operation.field(error["loc"], unknown=error["type"] in _UNKNOWN)
    if error["type"].startswith("union_tag"):
        place.append(str(error["ctx"]["discriminator"]).strip("'"))
    return {"loc": [_short(step) for step in place], "msg": _message(error)}


def _message(error: Mapping[str, Any]) -> str:
    """In the words of those who write JSON."""
    match error["type"]:
        case "extra_forbidden":
            return "unknown field"
        case "string_pattern_mismatch":  # pydantic would show the pattern
            return "It has not the form that is described in /docs"
        case "union_tag_not_found":
            return "Field required"
        case "union_tag_invalid":
            tag = error["ctx"]["tag"][:_NAME_LENGTH]
            known = error["ctx"]["expected_tags"].replace("'", "").split(", ")
            return f"There is no {tag!r} here. {did_you_mean(tag, known) or ''}".strip()
    message = str(error["msg"]).removeprefix("Value error, ")
    return message.replace("valid tuple", "valid list").replace("Tuple should", "List should")


def _unknown_field(
    operation: Operation, error: Mapping[str, Any], errors: list[FieldError]
) -> Problem:
    place, known = operation.field(error["loc"], unknown=True)
    name = str(_short(place[-1]))
    hint = did_you_mean(name, known) or "GET /docs lists the fields."
    if "why" in error.get("ctx", {}):
        hint = f"Leave it out: {error['ctx']['why']}."
    return Problem(
        "unknown_field", f"danlu knows no field {name!r} here.", hint=hint, errors=errors
    )


def _short(step: str | int) -> str | int:
    return step[:_NAME_LENGTH] if isinstance(step, str) else step
