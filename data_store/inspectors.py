"""Processes that look at the files of a data set, one for each core.

Threads would wait for each other: Pillow opens files in Python. Knows nothing of what is seen.
"""

import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from data_store import inspection
from data_store.inspection import Seen, Unreadable

_BATCH = 64
# A process takes a third of a second of one core before it has looked at anything.
_FEW = 500
_MOST_PROCESSES = 16
_LOOK_SECONDS = 0.2
# Ends in a row, without an answer between: then it is no file that ends these processes.
_MOST_ENDS = 20
# Not -m: what it sends back would be of the module `__main__`.
# numpy would start a thread for each core in each of them.
_PROGRAM = """\
import os
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
from data_store import inspection
inspection.main()
"""

Results = list[Seen | Unreadable]


def look_at(
    paths: Sequence[str], tick: Callable[[], object], *, processes: int | None = None
) -> Iterator[tuple[int, Seen | Unreadable]]:
    """What is seen in each file, with its place in `paths`, in any order.

    `tick` is called several times a second; what it raises ends the work and all processes, as does
    closing the iterator. A file that ends the process which decodes it is unreadable. `processes`:
    0: none but the caller's, None: as many as pays. Raises `RuntimeError` when they do not work.
    """
    if processes is None:
        processes = min(_cores(), _MOST_PROCESSES) if len(paths) > _FEW else 0
    if processes == 0:
        for place, path in enumerate(paths):
            tick()
            yield place, inspection.look_at([path])[0]
        return
    with _Crew(paths, processes) as crew:
        while not crew.is_done():
            tick()
            yield from crew.results()


class _Inspector:
    """A process, and the places of the files that it looks at now."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            command = [sys.executable, "-P", "-c", _PROGRAM]
            self._process = subprocess.Popen(command, stdin=theirs.fileno())
            self.channel = Connection(ours.detach())
        self.batch: range | None = None

    def send(self, batch: range, paths: Sequence[str]) -> None:
        self.batch = batch
        with suppress(ConnectionError):  # it is heard of when its answer does not come
            self.channel.send([paths[place] for place in batch])

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self.channel.close()


class _Crew:
    """Some inspectors, and the files that none has looked at yet."""

    def __init__(self, paths: Sequence[str], size: int) -> None:
        self._paths = paths
        self._size = size
        batches = (range(start, start + _BATCH) for start in range(0, len(paths), _BATCH))
        self._waiting = deque(range(b.start, min(b.stop, len(paths))) for b in batches)
        self._inspectors: dict[Connection, _Inspector] = {}
        self._ends = 0

    def __enter__(self) -> Self:
        for _ in range(min(self._size, len(self._waiting))):
            self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for inspector in self._inspectors.values():
            inspector.end()

    def is_done(self) -> bool:
        """Whether every file was looked at."""
        return not self._waiting and all(i.batch is None for i in self._inspectors.values())

    def results(self) -> Iterator[tuple[int, Seen | Unreadable]]:
        """What has come since, after a short wait for it."""
        busy = [channel for channel, one in self._inspectors.items() if one.batch is not None]
        for channel in connection.wait(busy, _LOOK_SECONDS):
            inspector = self._inspectors[channel]  # type: ignore[index] # only these are waited for
            yield from self._hear(inspector)

    def _hear(self, inspector: _Inspector) -> Iterator[tuple[int, Seen | Unreadable]]:
        batch = inspector.batch or range(0)
        try:
            found: Results = inspector.channel.recv()
        except (EOFError, ConnectionError):
            found = self._replace(inspector, batch)
        else:
            self._ends = 0
            self._give(inspector)
        yield from zip(batch, found, strict=False)

    def _replace(self, inspector: _Inspector, batch: range) -> Results:
        """Its process has ended: over one of the files, which are looked at one by one now."""
        del self._inspectors[inspector.channel]
        inspector.end()
        self._ends += 1
        if self._ends > _MOST_ENDS:
            raise RuntimeError("the processes that look at images end before they do")
        alone = len(batch) == 1
        if not alone:
            self._waiting.extendleft(range(place, place + 1) for place in reversed(batch))
        self._start()
        return [inspection.unreadable("Decoding it ended the process.")] if alone else []

    def _start(self) -> None:
        inspector = _Inspector()
        self._inspectors[inspector.channel] = inspector
        self._give(inspector)

    def _give(self, inspector: _Inspector) -> None:
        inspector.batch = None
        if self._waiting:
            inspector.send(self._waiting.popleft(), self._paths)


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
