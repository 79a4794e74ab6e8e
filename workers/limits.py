"""What ends a run before its epochs are done: its time is up, or it no longer gets better.

Knows nothing of networks and jobs.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from models_store.fields import EarlyStopping, Recipe

Reason = Literal["early_stopping", "max_seconds"]


class Limits:
    """The two limits of a run and how near it is to them, over all attempts.

    `ended` is why the run is over, if it is.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        clock: Callable[[], float] = time.monotonic,
        agree: Callable[[bool], bool] = bool,
    ) -> None:
        """Of several processes that share a training, all `agree` whether its time is up."""
        self.ended: Reason | None = None
        self._most = recipe.max_seconds
        self._stopping = recipe.early_stopping
        self._clock = clock
        self._agree = agree
        self._began: float | None = None
        self._before = 0.0  # seconds of earlier attempts
        self._best: float | None = None
        self._waited = 0  # epochs since the best

    def begin(self) -> None:
        """From now on time is counted."""
        self._before = self._seconds()
        self._began = self._clock()

    def time_is_up(self) -> bool:
        """Whether the run has had its seconds."""
        return self._most is not None and self._agree(self._seconds() >= self._most)

    def left(self) -> float:
        """Seconds that the run still has, in this attempt and later ones; infinity: no limit."""
        return math.inf if self._most is None else max(0.0, self._most - self._seconds())

    def judge(self, measured: Mapping[str, float]) -> None:
        """An epoch that is not the last is over; `measured` has `val_loss` and `val_accuracy`."""
        if self.time_is_up():
            self.ended = "max_seconds"
        elif self._stopping is not None and self._waited_long_enough(self._stopping, measured):
            self.ended = "early_stopping"

    def renew(self) -> None:
        """Somebody wants the run to go on after its end: it gets its time and patience again."""
        self.ended, self._before, self._best, self._waited = None, 0.0, None, 0

    def state_dict(self) -> dict[str, Any]:
        """How near the run is to its limits, as JSON."""
        return {
            "ended": self.ended,
            "seconds": self._seconds(),
            "best": self._best,
            "waited": self._waited,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave."""
        self.ended, self._before = state["ended"], state["seconds"]
        self._best, self._waited = state["best"], state["waited"]

    def _seconds(self) -> float:
        return self._before + (0.0 if self._began is None else self._clock() - self._began)

    def _waited_long_enough(self, stopping: EarlyStopping, measured: Mapping[str, float]) -> bool:
        """What is no number is never better."""
        value = measured[stopping.metric]
        if self._is_better(value, stopping):
            self._best, self._waited = value, 0
        else:
            self._waited += 1
        return self._waited >= stopping.patience

    def _is_better(self, value: float, stopping: EarlyStopping) -> bool:
        if self._best is None:
            return not math.isnan(value)
        gained = self._best - value if stopping.metric == "val_loss" else value - self._best
        return gained > stopping.min_delta
