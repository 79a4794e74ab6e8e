"""How work that takes long tells how far it is.

Knows nothing of the work.
"""

from collections.abc import Callable
from time import monotonic
from typing import Protocol

_SECONDS = 0.1


class Progress(Protocol):
    """Told how far it is, at most ten times a second; it may raise to stop the work."""

    def __call__(self, phase: str, done: int, total: int) -> None:
        """`phase` is "downloading" (counted in bytes) or "decoding" (in images)."""


def paced(progress: Progress, phase: str, total: int) -> Callable[[int], None]:
    """A function that adds to what is done, and tells `progress`: at once, at the end, and between
    them now and then.
    """
    done = 0
    told = 0.0

    def advance(more: int) -> None:
        nonlocal done, told
        done += more
        now = monotonic()
        if done == total or now - told >= _SECONDS:
            told = now
            progress(phase, done, total)

    progress(phase, 0, total)
    return advance
