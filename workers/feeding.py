"""Images of a data set that is not held in memory: they are read, by processes of their own, in the
order in which they will be taken, a little ahead of whoever takes them.

Knows nothing of what is learnt from them.
"""

import queue
import threading
import weakref
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from data_store import crew, reading
from data_store.crew import Crew
from data_store.parts import Pixels, Stream
from problems import Problem

_AHEAD = 4  # batches that may be ready before they are taken, if they are small
_AHEAD_BYTES = 16_000_000
_SENT_BYTES = 1_000_000  # that a process sends at a time, about
_LOOK_SECONDS = 0.2


@dataclass(slots=True)
class _Plan:
    """What will be taken of a part: the images of each batch, in order, and those that are ready.

    The last batch that was taken is kept, since parts of it may be asked for again.
    """

    part: str
    batches: Sequence[list[int]]
    ready: "queue.Queue[torch.Tensor | BaseException]"
    dropped: bool = False
    taken: int = 0
    pixels: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    places: dict[int, int] = field(default_factory=dict)

    def take(self, rows: list[int]) -> torch.Tensor | None:
        """Of the batch that was taken last or of the next; None if they are in neither."""
        if not all(row in self.places for row in rows):
            following = self.batches[self.taken] if self.taken < len(self.batches) else []
            if not set(rows) <= set(following):
                return None
            self._advance(following)
        places = [self.places[row] for row in rows]
        if places == list(range(len(self.pixels))):
            return self.pixels
        return self.pixels[places]

    def _advance(self, rows: list[int]) -> None:
        found = self.ready.get()
        if isinstance(found, BaseException):
            raise found
        self.taken += 1
        self.pixels, self.places = found, {row: place for place, row in enumerate(rows)}

    def put(self, ready: "torch.Tensor | BaseException") -> None:
        """Waits until there is room. Raises `_Dropped`."""
        while True:
            self.check()
            with suppress(queue.Full):
                self.ready.put(ready, timeout=_LOOK_SECONDS)
                return

    def check(self) -> None:
        """Raises `_Dropped`."""
        if self.dropped:
            raise _Dropped

    def drop(self) -> None:
        """Nobody takes anything of it any more."""
        self.dropped = True
        with suppress(queue.Empty):  # whoever waits for room hears of it at once
            while True:
                self.ready.get_nowait()


class _Dropped(Exception):
    """Nobody wants what is being read."""


class Feed:
    """Reads the images of a `stream` for a `device`. One batch after the other is taken, by one
    thread; the processes end with the last reference.
    """

    def __init__(self, stream: Stream, device: torch.device) -> None:
        self._stream = stream
        self._pins = device.type == "cuda"
        self._plan: _Plan | None = None
        self._current: list[_Plan] = []  # for who ends the thread, and must not know the feed
        self._plans: queue.SimpleQueue[_Plan | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def part(self, name: str, count: int) -> "Fed":
        """The images of a part, of which there are so many."""
        return Fed(self, name, torch.Size((count, *self._stream.shape)))

    def expect(self, part: str, batches: Sequence[torch.Tensor]) -> None:
        """These batches of images (n,) will be taken next; what was expected before will not."""
        if self._plan is not None:
            self._plan.drop()
        rows = [batch.tolist() for batch in batches]
        each = max(map(len, rows), default=0) * int(np.prod(self._stream.shape))
        ahead = max(1, min(_AHEAD, _AHEAD_BYTES // max(1, each)))
        self._plan = _Plan(part, rows, queue.Queue(ahead))
        self._current[:] = [self._plan]
        self._plans.put(self._plan)
        if self._thread is None:
            # It holds no reference to the feed, and so ends with it.
            reading = partial(_read, self._stream, self._plans, pins=self._pins)
            self._thread = threading.Thread(target=reading, name="feed", daemon=True)
            self._thread.start()
            weakref.finalize(self, _end, self._plans, self._current, self._thread)

    def take(self, part: str, index: torch.Tensor) -> torch.Tensor:
        """Pixels uint8 (n, H, W, C) of images (n,), beside the device. Those that nobody expected
        are read at once, by this process. Raises `Problem` dataset_changed.
        """
        rows: list[int] = index.tolist()
        if self._plan is not None and self._plan.part == part:
            try:
                found = self._plan.take(rows)
            except BaseException:
                self._plan.drop()
                self._plan = None  # nothing more will be ready
                raise
            if found is not None:
                return found
        items = [self._stream.items[part][row] for row in rows]
        return torch.from_numpy(_checked(self._stream, items, self._stream.read(items)))


@dataclass(frozen=True, slots=True)
class Fed:
    """One part of what a feed reads, in place of a tensor of all its pixels; `shape` is its."""

    feed: Feed
    name: str
    shape: torch.Size

    @property
    def device(self) -> torch.device:
        """Where the pixels are that are taken."""
        return torch.device("cpu")

    def expect(self, batches: Sequence[torch.Tensor]) -> None:
        """As `Feed.expect`."""
        self.feed.expect(self.name, batches)

    def take(self, index: torch.Tensor) -> torch.Tensor:
        """As `Feed.take`."""
        return self.feed.take(self.name, index)


def _read(stream: Stream, plans: "queue.SimpleQueue[_Plan | None]", *, pins: bool) -> None:
    """The thread: fulfils one plan after the other. It lives as long as its processes, which the
    system ends with the thread that started them.
    """
    with Crew(stream.read, partial(_lost, stream), processes=stream.processes) as readers:
        while (plan := plans.get()) is not None:
            with suppress(_Dropped):
                try:
                    _fulfil(plan, stream, readers, pins=pins)
                except _Dropped:
                    raise
                except BaseException as error:  # it is whoever takes the batch who must hear of it
                    plan.put(error)


def _fulfil(plan: _Plan, stream: Stream, readers: Crew[Any, Pixels], *, pins: bool) -> None:
    held = stream.items[plan.part]
    items = [held[row] for rows in plan.batches for row in rows]
    at_once = max(1, min(crew.BATCH, _SENT_BYTES // int(np.prod(stream.shape))))
    whole = (
        torch.empty((len(rows), *stream.shape), dtype=torch.uint8, pin_memory=pins)
        for rows in plan.batches
    )
    batch, filled = next(whole, torch.empty(0)), 0
    with closing(readers.run(items, plan.check, batch=at_once)) as blocks:
        for places, block in blocks:
            rest = torch.from_numpy(_checked(stream, items[places.start : places.stop], block))
            while len(rest):
                count = min(len(rest), len(batch) - filled)
                batch[filled : filled + count] = rest[:count]
                rest, filled = rest[count:], filled + count
                if filled == len(batch):
                    plan.put(batch)
                    batch, filled = next(whole, batch), 0


def _checked(stream: Stream, items: Sequence[Any], found: Pixels) -> "np.ndarray[Any, Any]":
    for place, why in found.bad.items():
        raise Problem(
            "dataset_changed",
            f"{stream.name(items[place])} could be read when the job began, and cannot any more: "
            f"{why}",
            hint="Put the file back, or leave it out, and resume the job.",
        )
    return found.pixels


def _lost(stream: Stream, _item: Any) -> Pixels:
    return Pixels(np.zeros((1, *stream.shape), np.uint8), {0: reading.LOST})


def _end(
    plans: "queue.SimpleQueue[_Plan | None]", current: list[_Plan], thread: threading.Thread
) -> None:
    for plan in current:
        plan.drop()
    plans.put(None)
    thread.join(5)
