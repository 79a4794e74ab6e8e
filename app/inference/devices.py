"""What predictions are computed with: the device, and as many processes and threads as cores."""

import os
from collections.abc import Callable

from app.inference.pool import Bounds
from settings import Settings

_PROCESSES = 4  # each has buffers of its own; further cores make a single network faster
_SHARE_OF_MEMORY = 4


class Device:
    """Where to compute now, which may change from one request to the next.

    `gpus` is what an inference process sees, `held` asks which devices jobs compute on: one that
    trains leaves a GPU neither time nor memory to rely on.
    """

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted
        self._held: frozenset[str] = frozenset()
        self.gpus: int | None = None  # nobody has told yet

    def __call__(self) -> str:
        """A name that PyTorch knows; of GPUs with the number."""
        if self._wanted != "auto":
            return "cuda:0" if self._wanted == "cuda" else self._wanted
        free = [f"cuda:{number}" for number in range(self.gpus or 0)]
        free = [one for one in free if one not in self._held]
        return free[-1] if free else "cpu"  # jobs begin with the first

    def look(self, held: Callable[[], frozenset[str]]) -> None:
        """Asks again which devices jobs hold, where there is a choice. From any thread."""
        if self._wanted == "auto" and self.gpus != 0:
            self._held = held()


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def bounds(settings: Settings) -> Bounds:
    """What the settings say, and for what they leave open what this machine has."""
    processes = settings.predict_processes or min(cores(), _PROCESSES)
    return Bounds(
        processes=processes,
        memory_bytes=settings.predict_memory_mb * 1_000_000 or _memory() // _SHARE_OF_MEMORY,
        idle_seconds=settings.predict_idle_seconds,
        seconds=settings.predict_timeout_seconds,
    )


def beside_server(processes: int) -> int:
    """Of so many processes those that leave a core to the server, but one at least."""
    return max(1, min(processes, cores() - 1))


def threads(processes: int) -> int:
    """That one network computes with."""
    return max(1, cores() // processes)


def _memory() -> int:
    """Of this machine, in bytes; what is usual where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 8_000_000_000
