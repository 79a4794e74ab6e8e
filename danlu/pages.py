"""Lists, which the server sends in pages.

Knows what a page is and nothing of what is in it.
"""

from collections.abc import Callable, Iterator
from typing import Any

from danlu.wire import Item, Page

_MOST = 200  # items that the server gives at once


def every(page: Callable[..., Page[Item]], **asked: Any) -> Iterator[Item]:
    """All items of a list of the client's, such as `client.models`, page after page; `asked` goes
    into each question.
    """
    for part in _parts(page, **asked):
        yield from part["items"]


def whole(page: Callable[..., Page[Item]]) -> Page[Item]:
    """A list as one page."""
    first, *rest = _parts(page)
    items = [*first["items"], *(item for part in rest for item in part["items"])]
    return {**first, "items": items, "next_cursor": None}


def _parts(page: Callable[..., Page[Item]], **asked: Any) -> Iterator[Page[Item]]:
    cursor = None
    while True:
        part = page(**asked, limit=_MOST, cursor=cursor)
        yield part
        cursor = part["next_cursor"]
        if cursor is None:
            return
