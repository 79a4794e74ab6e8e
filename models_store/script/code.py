"""Python expressions as a formatter would lay them out. Knows nothing of what they mean."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

WIDTH = 100
INDENT = "    "
_ROOM = WIDTH - 2 * len(INDENT)  # what is laid out first and indented later still fits

Lines = list[str]


class Raw(str):
    """Code that is written as it stands."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Call:
    """`function(positional, …, name=value, …)`; the values are code or plain data."""

    function: str
    positional: tuple[Any, ...] = ()
    named: tuple[tuple[str, Any], ...] = ()


def call(function: str, *positional: Any, **named: Any) -> Call:
    """A call with these values."""
    return Call(function, positional, tuple(named.items()))


def statement(before: str, value: Any, *, depth: int = 0) -> list[str]:
    """Lines of `before` and the value, such as `x = ` and a call, at a depth of indentation; those
    at depth 0 may still be indented twice.
    """
    return _laid_out(before, value, "", depth)


def indented(lines: Iterable[str], depth: int = 1) -> list[str]:
    """The lines, deeper; empty ones stay empty."""
    return [INDENT * depth + line if line else "" for line in lines]


def flat(value: Any) -> str:
    """The value on a single line."""
    match value:
        case Raw():
            return str(value)
        case str():
            return json.dumps(value, ensure_ascii=False) if value.isprintable() else ascii(value)
        case Call() | list() | tuple() | Mapping():
            opening, items, closing = _parts(value)
            comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
            inside = ", ".join(before + flat(one) for before, one in items)
            return f"{opening}{inside}{comma}{closing}"
    return repr(value)


def _laid_out(before: str, value: Any, after: str, depth: int) -> list[str]:
    line = f"{INDENT * depth}{before}{flat(value)}{after}"
    if len(line) <= _ROOM or not isinstance(value, Call | list | tuple | Mapping):
        return [line]
    opening, items, closing = _parts(value)
    lines = [f"{INDENT * depth}{before}{opening}"]
    for name, one in items:
        lines += _laid_out(name, one, ",", depth + 1)
    return [*lines, f"{INDENT * depth}{closing}{after}"]


def _parts(value: Any) -> tuple[str, list[tuple[str, Any]], str]:
    """How it opens, what stands before each of its values and they themselves, how it closes."""
    match value:
        case Call(function, positional, named):
            items = [("", one) for one in positional]
            return f"{function}(", [*items, *((f"{name}=", one) for name, one in named)], ")"
        case list():
            return "[", [("", one) for one in value], "]"
        case tuple():
            return "(", [("", one) for one in value], ")"
    return "{", [(f"{flat(key)}: ", one) for key, one in value.items()], "}"


def as_tuples(value: Any) -> Any:
    """JSON's lists as the tuples that PyTorch's arguments are."""
    return tuple(value) if isinstance(value, list) else value


def differing(
    given: Mapping[str, Any], defaults: Mapping[str, Any], *, always: Iterable[str] = ()
) -> dict[str, Any]:
    """The arguments that must be said: those that are not their default, and some in any case."""
    said = {*always}
    return {
        key: as_tuples(value)
        for key, value in given.items()
        if key in said or key not in defaults or value != defaults[key]
    }
