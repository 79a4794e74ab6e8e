"""Lists cut into pages: what a page is and the opaque cursor that leads to the next one.

Knows nothing of the rows in it.
"""

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from problems import Problem

Row = TypeVar("Row")
Place = tuple[float | None, str]  # value of the sorted column where it is not the id, and the id


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some rows in order; `next_cursor` is None on the last page."""

    items: list[Row]
    next_cursor: str | None


def cursor_to(sort: str, place: Place) -> str:
    """The cursor of everything that comes after `place` in the order `sort`."""
    text = json.dumps([sort, *place], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def place_of(cursor: str, sort: str) -> Place:
    """Where `cursor` points; Problem invalid_request if it was made for a list in another order."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        made_for, value, row_id = json.loads(
            base64.b64decode(padded, altchars=b"-_", validate=True)
        )
        # JSON may hold half a surrogate pair and numbers of any size, which no database takes.
        str.encode(row_id)
        is_value = value is None or (type(value) in (float, int) and math.isfinite(value))
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise _wrong(cursor) from None
    if made_for != sort or not is_value:
        raise _wrong(cursor)
    return None if value is None else float(value), row_id


def part(names: Sequence[str], order: str, *, limit: int, cursor: str | None) -> Page[str]:
    """A page of a list that is no table: `names` are all that it has, each once, in the order that
    `order` names. It goes on after the last one of the page before, or from its place if that one
    is gone by now. Problem invalid_request for a cursor of another list.
    """
    start = 0
    if cursor is not None:
        position, name = place_of(cursor, order)
        if position is None:
            raise _wrong(cursor)
        start = names.index(name) + 1 if name in names else max(int(position), 0)
    end = start + limit
    more = end < len(names)
    return Page(
        list(names[start:end]), cursor_to(order, (end - 1, names[end - 1])) if more else None
    )


def _wrong(cursor: str) -> Problem:
    return Problem(
        "invalid_request",
        f"The cursor {cursor[:80]!r} does not belong to this list.",
        hint="Take next_cursor of the page before, with the same sort.",
        errors=[{"loc": ["query", "cursor"], "msg": "not a cursor of this list"}],
    )
