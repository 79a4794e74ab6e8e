"""How a training on the CPU computes: with all threads, which spin while they wait for each other,
or considerate of others, with as many as have a core to use, which sleep while they wait.

The threads of a step wait for each other thousands of times a second. Where others want the cores
too, one of them always waits for its core, and the rest for it. What is faster is tried out now and
then (docs/decisions/0049, 0051). Knows nothing of networks.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

import torch

from models_store.fields import Recipe
from workers import spins
from workers.batches import Batch
from workers.steps import Run

_WINDOW_SECONDS = 0.5  # of steps that are looked at together
# Of the time of all threads: where they compute less of it, somebody else may have their cores.
_ALONE = 0.75
_GAIN = 1.1  # times as fast, for fewer threads to be kept
_LEAST_PAUSE, _MOST_PAUSE = 4, 64  # windows between two tries


def paced(step: Callable[[Batch], float], recipe: Recipe, run: Run) -> Callable[[Batch], float]:
    """What does the same as `step`, in the way that is fastest just now.

    The threads are fewer in bf16 alone, and not where it is `deterministic`: with other threads the
    gradients of weights are added up in another order. Nor among several devices, which wait for
    each other. There they only sleep.
    """
    threads = torch.get_num_threads()
    is_exact = recipe.deterministic or run.precision != "bf16" or run.group.size > 1
    if run.device.type != "cpu" or threads == 1:
        return step

    def use(wanted: int) -> None:
        spins.sleep_at_once(wanted < threads)
        if not is_exact:
            torch.set_num_threads(wanted)

    pace = Pace(threads, use=use)

    def do(batch: Batch) -> float:
        began, computed = time.perf_counter(), time.process_time()
        lr = step(batch)
        seconds = time.perf_counter() - began
        pace.tell(len(batch.index), seconds, time.process_time() - computed)
        return lr

    return do


@contextlib.contextmanager
def all_afterwards() -> Iterator[None]:
    """As many threads as before, which spin, whatever was changed meanwhile."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        spins.sleep_at_once(False)
        torch.set_num_threads(threads)


class Pace:
    """Tries fewer threads where all do not get to compute, and all again after a pause."""

    def __init__(self, threads: int, *, use: Callable[[int], object]) -> None:
        """`use` is told the number of threads from now on, whatever it makes of it."""
        self._all = self._threads = threads
        self._use = use
        self._images = 0
        self._seconds = self._computed = 0.0
        self._before: tuple[int, float] | None = None  # a try: threads and images a second
        self._pause, self._left = _LEAST_PAUSE, 1

    def tell(self, images: int, seconds: float, computed: float) -> None:
        """Of a step: in so many seconds all threads together have computed for so many."""
        self._images += images
        self._seconds += seconds
        self._computed += computed
        if self._seconds >= _WINDOW_SECONDS:
            self._look(self._images / self._seconds, self._computed / self._seconds)
            self._images, self._seconds, self._computed = 0, 0.0, 0.0

    def _look(self, speed: float, cores: float) -> None:
        if self._before is not None:
            self._judge(*self._before, speed)
        elif self._left > 0:
            self._left -= 1
        elif self._threads < self._all:
            self._try(self._all, speed)
        elif cores < _ALONE * self._all:
            self._try(max(1, round(cores)), speed)

    def _try(self, threads: int, speed: float) -> None:
        if threads != self._threads:
            self._before = self._threads, speed
            self._change(threads)

    def _judge(self, threads: int, before: float, speed: float) -> None:
        """Goes back to so many threads unless those that were tried are faster."""
        self._before = None
        fewer = self._threads < threads
        if speed < (_GAIN * before if fewer else before / _GAIN):
            self._change(threads)
            self._pause = min(2 * self._pause, _MOST_PAUSE)
        else:
            self._pause = _LEAST_PAUSE
        self._left = self._pause

    def _change(self, threads: int) -> None:
        self._threads = threads
        self._use(threads)
