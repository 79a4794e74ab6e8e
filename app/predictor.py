"""Hands images to the inference processes, which classify together what waits together.

Nothing is waited for: who comes alone is answered at once. Lives in the server's event loop. Knows
neither HTTP nor rows; which process has which checkpoint is `app.inference.pool`'s to know.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.figures import Figures, Serving
from app.inference.peer import Given, Process
from app.inference.pool import Pool
from app.tallies import Predictions
from problems import Problem

log = logging.getLogger(__name__)

# Images at one process upon which another is asked to load the model too.
_CROWD = 4
# Seconds of computing an image from which on all processes share the work. Below it the server has
# as much to do with each, and processes that took its core from it made the whole slower: 3,300
# requests a second by two in place of 4,200 by one, on two cores.
_LONG = 0.0005
_REFUSED_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many may wait, how long, and how many processes compute with one model: at most, and
    where the server itself needs a core.
    """

    requests: int
    request_bytes: int  # of their images, together
    seconds: float  # of one request
    processes: int
    processes_beside: int


@dataclass(frozen=True, slots=True)
class Asked:
    """Images, and what is wanted of them. A `Problem` in place of an image is passed on."""

    checkpoint_id: str
    filenames: Sequence[str | None]
    images: Sequence[bytes | Problem]
    top_k: int
    threshold: float
    explain: str | None


@dataclass(eq=False, slots=True)
class _Pending:
    number: int
    asked: Asked
    given: Given
    answer: asyncio.Future[bytes]
    at: Process | None = None
    alone: bool = False


class Predictor:
    """Questions of one server to its pool."""

    def __init__(self, pool: Pool, bounds: Bounds) -> None:
        self.pool = pool
        self._bounds = bounds
        self._waiting: dict[str, deque[_Pending]] = {}
        self._pending: dict[int, _Pending] = {}
        self._reloading: set[str] = set()
        self._figures: dict[str, Figures] = {}
        self.tally = Predictions()
        self._number = 0
        self._requests = self._request_bytes = 0
        pool.heard, pool.ended, pool.loaded = self._hear, self._lose, self._pump

    async def classify(self, asked: Asked) -> bytes:
        """The answers, a list in JSON, in the form of `app.predictions`.

        Raises `Problem` overloaded, too_slow, not_ready, checkpoint_not_found, checkpoint_damaged,
        no_feature_map, internal, and of a single image what `images.decode` raises.
        """
        size = sum(len(image) for image in asked.images if isinstance(image, bytes))
        given = Given(asked.checkpoint_id, len(asked.images), size)
        large = self._request_bytes + size > self._bounds.request_bytes
        if self.is_full or (large and self._requests):
            raise self._overloaded()
        self._requests += 1
        self._request_bytes += size
        try:
            answers = await self._classified(asked, given)
        except BaseException as error:
            self.tally.ended(_result(error))
            raise
        else:
            self.tally.ended("answered")
            return answers
        finally:
            self._requests -= 1
            self._request_bytes -= size

    async def room(self) -> None:
        """For a request whose body was not read yet: returns if there is room soon. Raises
        `Problem` overloaded, after a while: clients that come again at once, thousands of times a
        second, would take the server's time from those whose turn it is.
        """
        await asyncio.sleep(_REFUSED_SECONDS)
        if self.is_full:
            raise self._overloaded()

    @property
    def is_full(self) -> bool:
        """Whether no more requests may wait."""
        return self._requests >= self._bounds.requests

    def _overloaded(self) -> Problem:
        self.tally.ended("overloaded")
        return Problem("overloaded", "Too many images wait to be classified.")

    @property
    def requests(self) -> int:
        """Requests that wait or are worked at."""
        return self._requests

    def serving(self) -> list[Serving]:
        """What is loaded, or was asked for. From any thread."""
        warm = {one.checkpoint_id: one for one in self.pool.warm()}
        figures = dict(self._figures)
        return [
            Serving.of(one, warm.get(one), figures.get(one, Figures()))
            for one in sorted(warm.keys() | figures.keys())
        ]

    async def _classified(self, asked: Asked, given: Given) -> bytes:
        loop = asyncio.get_running_loop()
        self._number += 1
        pending = _Pending(self._number, asked, given, loop.create_future())
        self._pending[pending.number] = pending
        late = loop.call_later(self._bounds.seconds, self._give_up, pending)
        try:
            if not self.pool.having(asked.checkpoint_id):
                await self._loaded(pending)
            if pending.answer.done():  # it has taken too long
                return await pending.answer
            self._waiting.setdefault(asked.checkpoint_id, deque()).append(pending)
            self._pump(asked.checkpoint_id)
            return await pending.answer
        finally:
            late.cancel()
            self._drop(pending)

    async def _loaded(self, pending: _Pending) -> None:
        """Once the checkpoint is loaded, or the request has ended."""
        load = asyncio.create_task(self.pool.load(pending.asked.checkpoint_id))
        try:
            await asyncio.wait((load, pending.answer), return_when=asyncio.FIRST_COMPLETED)
            if load.done():
                load.result()
        finally:
            load.cancel()  # of this waiting alone: others may wait for it too

    def _give_up(self, pending: _Pending) -> None:
        late = Problem("too_slow", f"It took longer than {self._bounds.seconds:g} seconds.")
        _fail(pending, late)

    def _drop(self, pending: _Pending) -> None:
        """Of a request that has ended, in whatever way, nothing is to be done any more."""
        del self._pending[pending.number]
        if pending.at is not None:
            pending.at.drop(pending.number)
            pending.at = None
        elif waiting := self._waiting.get(pending.asked.checkpoint_id):
            with contextlib.suppress(ValueError):
                waiting.remove(pending)

    # -- to the processes -----------------------------------------------------------------------

    def _pump_all(self) -> None:
        """A process has room again, or is no more: also of what waits for other models."""
        for checkpoint_id in list(self._waiting):
            self._pump(checkpoint_id)

    def _pump(self, checkpoint_id: str) -> None:
        """Gives what waits for a checkpoint to the processes that have it and have room."""
        waiting = self._waiting.get(checkpoint_id)
        while waiting:
            most = self._processes_for(checkpoint_id)
            having = self.pool.having(checkpoint_id)[:most]
            if not having:  # it was let go of, or its process is no more
                self._load_again(checkpoint_id)
                return
            process = min(having, key=lambda one: (one.is_full, one.images))
            if process.images >= _CROWD and len(having) < most:
                self.pool.spread(checkpoint_id)
            if process.is_full:
                return
            self._ask(process, waiting.popleft())
        self._waiting.pop(checkpoint_id, None)

    def _processes_for(self, checkpoint_id: str) -> int:
        """As many as may compute with it at the same time."""
        figures = self._figures.get(checkpoint_id)
        is_long = figures is not None and figures.seconds_per_image > _LONG
        return self._bounds.processes if is_long else self._bounds.processes_beside

    def _ask(self, process: Process, pending: _Pending) -> None:
        asked, images = pending.asked, pending.asked.images
        is_idle = self.pool.is_idle
        process.take(pending.number, pending.given)
        pending.at = process
        said = {
            "do": "classify",
            "number": pending.number,
            "checkpoint": asked.checkpoint_id,
            "filenames": asked.filenames,
            "sizes": [one.as_dict() if isinstance(one, Problem) else len(one) for one in images],
            "top_k": asked.top_k,
            "threshold": asked.threshold,
            "explain": asked.explain,
            "alone": pending.alone,
            "idle": is_idle,
        }
        process.link.say(said, [one for one in images if isinstance(one, bytes)])

    def _load_again(self, checkpoint_id: str) -> None:
        """For requests that were to be answered by a process that has it no more."""
        if checkpoint_id in self._reloading:
            return
        self._reloading.add(checkpoint_id)
        task = asyncio.create_task(self.pool.load(checkpoint_id))

        def done(_: object) -> None:
            self._reloading.discard(checkpoint_id)
            error = None if task.cancelled() else task.exception()
            if error is None:
                self._pump(checkpoint_id)
                return
            for pending in self._waiting.pop(checkpoint_id, ()):
                _fail(pending, error)

        task.add_done_callback(done)

    # -- from the processes ---------------------------------------------------------------------

    def _hear(self, process: Process, said: dict[str, Any], data: bytes) -> None:
        if said["did"] == "batch":
            self._note(said)
        elif said["did"] == "drop":
            process.give_back(said["number"])
        if said["did"] != "classify":
            self._pump_all()
            return
        pending = self._pending.get(said["number"])
        if pending is None or pending.at is not process:  # given up, or asked again elsewhere
            return
        process.give_back(pending.number)
        pending.at = None
        if "problem" in said:
            _fail(pending, Problem(**said["problem"]))
            self._pump_all()  # it may have gone through no network
        elif not pending.answer.done():
            pending.answer.set_result(data)

    def _note(self, said: dict[str, Any]) -> None:
        figures = self._figures.setdefault(said["checkpoint"], Figures())
        figures.add(said["requests"], said["images"], said["seconds"])
        self.tally.batch(said["images"], said["seconds"])

    def _lose(self, process: Process) -> None:
        """Asks elsewhere what a process has not answered before it ended. If the first of it was
        asked alone, that is what ended it; of a batch it could be any, so each is asked alone.
        """
        lost = [self._pending[number] for number in process.requests]
        for pending in lost:
            pending.at = None
            if pending.alone and pending is lost[0]:
                _fail(pending, Problem("internal", "The process that computed it has ended."))
                continue
            pending.alone = True
            self._waiting.setdefault(pending.asked.checkpoint_id, deque()).append(pending)
        self._pump_all()


def _result(error: BaseException) -> str:
    """What became of a question that was not answered."""
    if isinstance(error, Problem):
        return error.code
    return "dropped" if isinstance(error, asyncio.CancelledError) else "internal"


def _fail(pending: _Pending, error: BaseException) -> None:
    if not pending.answer.done():
        pending.answer.set_exception(error)
        pending.answer.exception()  # nobody may wait for it any more
