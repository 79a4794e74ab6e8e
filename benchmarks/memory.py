"""Memory of processes as Linux counts it: a page that several share counts in parts.

0 where it is not told, as on other systems, and of a process that is gone.
"""

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self


def pss_mb(pid: int) -> float:
    """All of a process."""
    return _told_mb(pid, "Pss:")


def of_all(processes: Callable[[], Iterable[int]]) -> float:
    """Of several together. Looked at anew if one of them ends meanwhile: what it shared would be
    counted once as its part and again as a part of the others.
    """
    while True:
        pids = [pid for pid in processes() if _has_memory(pid)]
        together = sum(map(pss_mb, pids))
        if all(map(_has_memory, pids)):
            return together


def _has_memory(pid: int) -> bool:
    with suppress(OSError):
        return not Path(f"/proc/{pid}/statm").read_text().startswith("0 ")
    return not Path("/proc/self/statm").exists()  # where it is told of none


def anonymous_mb(pid: int) -> float:
    """What is no file's: its own, and its part of what it shares with others since a fork."""
    return _told_mb(pid, "Pss_Anon:")


def _told_mb(pid: int, name: str) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


class Curve:
    """Use as a context: looks at a number every so often, and keeps them with the seconds since it
    began. A look at the memory of a process stops it for a few milliseconds.
    """

    def __init__(self, look: Callable[[], float], *, every_seconds: float = 0.5) -> None:
        self.seen: list[tuple[float, float]] = []
        self._look, self._every = look, every_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def most(self, *, after: float = 0.0) -> float:
        """The largest, from so many seconds on."""
        return max((value for seconds, value in self.seen if seconds >= after), default=0.0)

    def _run(self) -> None:
        began = time.monotonic()
        while not self._over.wait(self._every):
            self.seen.append((time.monotonic() - began, self._look()))
