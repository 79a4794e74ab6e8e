"""Memory of processes as Linux counts it: a page that several share counts in parts (Pss).

0 where it is not told, as on other systems.
"""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self


def pss_mb(pid: int) -> float:
    """Of one process, 0 of one that is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


class Peak:
    """Use as a context: looks at processes now and then, and keeps the most they had together.

    A look stops a process for a few milliseconds, so it is seldom.
    """

    def __init__(self, pids: Callable[[], Iterable[int]], *, every_seconds: float = 1.0) -> None:
        self.mb = 0.0
        self._pids = pids
        self._every = every_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

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

    def _look(self) -> None:
        while not self._over.wait(self._every):
            self.mb = max(self.mb, sum(map(pss_mb, self._pids())))
