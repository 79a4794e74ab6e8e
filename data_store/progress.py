"""How work that takes long tells how far it is.

Knows nothing of the work.
"""

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Protocol

_SECONDS = 0.1
_RATE_SECONDS = 5.0


class Progress(Protocol):
    """Told how far it is, at most ten times a second; it may raise to stop the work."""

    def __call__(self, phase: str, done: int, total: int) -> None:
        """`phase` is "downloading", "listing" or "unpacking" (counted in bytes), "decoding" or
        "checking" (in images, or in bytes of decoded ones).
        """


def paced(
    progress: Progress, phase: str, total: int, *, done: int = 0, at_once: bool = True
) -> Callable[[int], None]:
    """A function that adds to what is done, and tells `progress`: at once, at the end, and between
    them now and then. Not `at_once`: only now and then, and never of what is done by then.
    """
    told = 0.0 if at_once else monotonic()

    def advance(more: int) -> None:
        nonlocal done, told
        done += more
        now = monotonic()
        if (at_once and done == total) or now - told >= _SECONDS:
            told = now
            progress(phase, done, total)

    if at_once:
        progress(phase, done, total)
    return advance


class Rate:
    """How fast something grows: over the last five seconds, per second."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def __call__(self, done: int) -> float | None:
        """With so much done now. None while that is too new to say, and after a step back."""
        now = monotonic()
        if self._seen and done < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, done))
        while len(self._seen) > 1 and now - self._seen[1][0] >= _RATE_SECONDS:
            self._seen.popleft()
        began, then = self._seen[0]
        return (done - then) / (now - began) if now - began >= 1.0 else None
