"""Processes that do one thing to many files, and give what came of it in the files' order.

Threads would wait for each other: Pillow opens files in Python. Knows nothing of what is done.
"""

import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Generic, Self, TypeVar

BATCH = 64
_MOST_PROCESSES = 8  # each takes 25 MB
# Work is worth processes from here on: each takes a third of a second of its core before it has
# done anything.
_WORTH_SECONDS = 0.5
_LOOK_SECONDS = 0.2
# Batches for each process that may be done before their turn comes.
_AHEAD = 3
# Ends in a row, without an answer between: then it is no file that ends these processes.
_MOST_ENDS = 20
# Not -m: what it sends back would be of the module `__main__`.
# numpy would start a thread for each core in each of them.
_PROGRAM = """\
import os
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
from data_store import members
members.main()
"""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def worth(seconds: float) -> int:
    """How many processes pay for work that takes one core so long; 0: none but the caller's."""
    return min(_cores(), _MOST_PROCESSES) if seconds > _WORTH_SECONDS else 0


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Crew(Generic[Item, Answer]):
    """Use as a context, or `end` it: its processes, which the first run starts, are killed then.

    `work`, a function that can be pickled, is done to lists of items. An item that ends the process
    which works on it gets the answer `lost`. 0 `processes`: the caller's own does it all.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Answer],
        lost: Callable[[Item], Answer],
        *,
        processes: int,
    ) -> None:
        self._work, self._lost = work, lost
        self._most = processes
        self._members: dict[Connection, _Member[Item]] = {}
        self._ends = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> None:
        """Whatever they are at."""
        for member in self._members.values():
            member.end()
        self._members.clear()

    def run(
        self, items: Sequence[Item], tick: Callable[[], object], *, batch: int = BATCH
    ) -> Generator[tuple[range, Answer], None, None]:
        """The answers for all items, so many at a time, in order, with their places in `items`.

        `tick` is called several times a second; what it raises ends the run. One that is left early
        is forgotten by the next, never gone on with. Raises `RuntimeError` when the processes do
        not work.
        """
        run: _Run[Item, Answer] = _Run.of(items, batch)
        self._ends = 0
        if self._most == 0:
            for place in run.waiting:
                tick()
                yield place, self._work(run.at(place))
            return
        ahead = _AHEAD * self._most * batch
        while run.next < len(items):
            for member in self._idle(len(run.waiting)):
                if run.waiting and run.waiting[0].start < run.next + ahead:
                    member.give(run, run.waiting.popleft())
            if (found := run.answers.pop(run.next, None)) is not None:
                run.next = found[0].stop
                yield found
                continue
            tick()
            self._hear(run)

    def _idle(self, wanted: int) -> "list[_Member[Item]]":
        """Those that do nothing, after starting some if there are batches for more."""
        idle = [member for member in self._members.values() if member.place is None]
        for _ in range(min(wanted - len(idle), self._most - len(self._members))):
            idle.append(self._start())
        return idle

    def _start(self) -> "_Member[Item]":
        member: _Member[Item] = _Member(self._work)
        self._members[member.channel] = member
        return member

    def _hear(self, run: "_Run[Item, Answer]") -> None:
        """Takes what has been answered, after a short wait for it."""
        busy = [channel for channel, one in self._members.items() if one.place is not None]
        for channel in connection.wait(busy, _LOOK_SECONDS):
            member = self._members[channel]  # type: ignore[index] # only these are waited for
            place, ours = member.place or range(0), member.run is run
            try:
                answer: Answer = member.channel.recv()
            except (EOFError, ConnectionError):
                self._bury(member)
                if ours:
                    self._again(run, place)
            else:
                self._ends = 0
                member.place = None
                if ours:
                    run.answers[place.start] = (place, answer)

    def _bury(self, member: "_Member[Item]") -> None:
        del self._members[member.channel]
        member.end()
        self._ends += 1
        if self._ends > _MOST_ENDS:
            raise RuntimeError("the processes that look at images end before they do")

    def _again(self, run: "_Run[Item, Answer]", place: range) -> None:
        """A process has ended over one of these items, which are worked on one by one now."""
        if len(place) == 1:
            run.answers[place.start] = (place, self._lost(run.items[place.start]))
        else:
            run.waiting.extendleft(range(one, one + 1) for one in reversed(place))


@dataclass(slots=True)
class _Run(Generic[Item, Answer]):
    """Some items: which batches nobody has yet, and which answers wait for their turn."""

    items: Sequence[Item]
    waiting: deque[range]
    answers: dict[int, tuple[range, Answer]] = field(default_factory=dict)
    next: int = 0

    @classmethod
    def of(cls, items: Sequence[Item], batch: int) -> Self:
        starts = range(0, len(items), batch)
        return cls(items, deque(range(at, min(at + batch, len(items))) for at in starts))

    def at(self, place: range) -> Sequence[Item]:
        return self.items[place.start : place.stop]


class _Member(Generic[Item]):
    """A process, and the places of the items that it has now, of a run."""

    def __init__(self, work: Callable[[Sequence[Item]], object]) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            command = [sys.executable, "-P", "-c", _PROGRAM]
            self._process = subprocess.Popen(command, stdin=theirs.fileno())
            self.channel = Connection(ours.detach())
        self.place: range | None = None
        self.run: object = None
        self._send(work)

    def give(self, run: "_Run[Item, Answer]", place: range) -> None:
        self.run, self.place = run, place
        self._send(run.at(place))

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self.channel.close()

    def _send(self, what: object) -> None:
        with suppress(ConnectionError):  # it is heard of when its answer does not come
            self.channel.send(what)
