"""The bodies of requests that are being read, and how many bytes they have together.

Knows nothing of what is in them.
"""

from types import TracebackType
from typing import Self

from problems import Problem


class Bodies:
    """No more than so many bytes at a time; one body may be larger where there is no other."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0

    def one(self) -> "Body":
        """For one request, as a context in which it is read."""
        return Body(self)


class Body:
    """What has come of one of them."""

    __slots__ = ("_all", "_held")

    def __init__(self, bodies: Bodies) -> None:
        self._all = bodies
        self._held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._all.held -= self._held

    def more(self, count: int) -> None:
        """So many bytes more have come. Raises `Problem` overloaded."""
        self._held += count
        self._all.held += count
        if self._all.held > self._all.most and self._all.held > self._held:
            raise Problem("overloaded", "Too many images are being sent at the same time.")
