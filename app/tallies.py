"""What a server counts while it works: answers, predictions and batches, and how long each took.

Cheap enough for every request, so plain numbers; what Prometheus makes of them is `app.metrics`'s
to know. Counted in the server's event loop, read from any thread.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from starlette.types import Scope

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_IMAGES = (1, 2, 4, 8, 16, 32, 64)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"
"""The route of what was refused before its route was looked for, or has none."""
GONE = 499
"""Stands for the status that was never sent because the client went away; nginx logs it so."""


class Histogram:
    """How many values lie at or below each bound, and past the last; and their sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        # One list, so that whoever copies it has all of it as of one moment.
        self._numbers: list[float] = [0] * (len(bounds) + 2)

    def add(self, value: float) -> None:
        """One more value."""
        numbers = self._numbers
        numbers[bisect_left(self.bounds, value)] += 1
        numbers[-1] += value

    def read(self) -> tuple[list[float], float]:
        """How many lie at each bound, the last number being those past all; and the sum."""
        *counts, total = self._numbers.copy()
        return counts, total


@dataclass(slots=True)
class _Answered:
    count: int = 0
    seconds: Histogram = field(default_factory=lambda: Histogram(_SECONDS))


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of one kind until now."""

    route: str
    method: str
    status: int
    count: int
    seconds: tuple[list[float], float]


class Requests:
    """HTTP requests by route, method and status. None of these is a text that the client chose."""

    bounds = _SECONDS

    def __init__(self) -> None:
        self._answered: dict[tuple[str, str, int], _Answered] = {}

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Notes that a response begins, `seconds` after its request."""
        route = scope.get("route")
        path = OTHER if route is None else route.path_format
        found = self._answered.get((path, scope["method"], status))
        if found is None:
            found = self._new(path, scope["method"], status)
        found.count += 1
        # Who waits for a job to end is answered when it ends: that is no slowness of ours.
        if b"wait=" not in scope["query_string"] and status != GONE:
            found.seconds.add(seconds)

    def read(self) -> list[Answers]:
        """Everything until now."""
        return [
            Answers(*key, found.count, found.seconds.read())
            for key, found in tuple(self._answered.items())
        ]

    def _new(self, path: str, method: str, status: int) -> _Answered:
        method = method if method in _METHODS else OTHER
        return self._answered.setdefault((path, method, status), _Answered())


class Predictions:
    """Questions to the predictor by what became of them, and the batches they were answered in."""

    def __init__(self) -> None:
        self.results: Counter[str] = Counter()
        self.batch_images = Histogram(_IMAGES)
        self.batch_seconds = Histogram(_SECONDS)

    def ended(self, result: str) -> None:
        """`answered`, `dropped`, or the code of a problem."""
        self.results[result] += 1

    def batch(self, images: int, seconds: float) -> None:
        """A batch was computed."""
        self.batch_images.add(images)
        self.batch_seconds.add(seconds)


def added(histograms: Iterable[tuple[list[float], float]]) -> tuple[list[float], float]:
    """Several that were read, with the same bounds, as one."""
    counts, sums = zip(*histograms, strict=True)
    return [sum(column) for column in zip(*counts, strict=True)], sum(sums)
