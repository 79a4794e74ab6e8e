"""How long a server is waited for, and how slow it may be.

Knows nothing of requests: it counts bytes and seconds.
"""

from dataclasses import dataclass
from time import monotonic


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds, and bytes per second over a window of `window_seconds`.

    Without internet a person should hear so within seconds; a busy server may pause for longer. A
    server under `slow` is left for one that has not been asked yet; when all are slow the fastest
    is taken, down to `least`: at 1,024 MNIST takes three hours, and over a modem still comes.
    """

    connect_seconds: float = 5.0
    silent_seconds: float = 30.0
    window_seconds: float = 15.0
    slow: float = 32_768
    least: float = 1_024
    pause_seconds: float = 1.0


PATIENCE = Patience()


class Pace:
    """Bytes per second of what comes now."""

    def __init__(self, window_seconds: float) -> None:
        self._window = window_seconds
        self._began = self._opened = monotonic()
        self._bytes = self._inside = 0
        self._last: float | None = None

    def add(self, count: int) -> None:
        """So many bytes have come."""
        self._bytes += count
        self._inside += count

    @property
    def rate(self) -> float:
        """Of the last whole window; before there is one, of all so far."""
        if self._last is not None:
            return self._last
        return self._bytes / max(monotonic() - self._began, 1e-3)

    def is_under(self, limit: float) -> bool:
        """Whether a whole window has just passed with less. Ask often: it opens the next one."""
        passed = monotonic() - self._opened
        if passed < self._window:
            return False
        self._last = self._inside / passed
        self._opened, self._inside = monotonic(), 0
        return self._last < limit
