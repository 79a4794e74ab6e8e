"""The memory that loaded models may take, all processes together: what was used least lately goes
first. Knows weights, not what is computed with them.
"""

from collections.abc import Sequence
from pathlib import Path

from app.inference.entry import OBJECT_BYTES
from app.inference.peer import Process

_WEIGHTS = "model.safetensors"


class Space:
    """So many bytes for what `processes` have, whose models are folders below `root`."""

    def __init__(self, root: Path, most: int, processes: Sequence[Process]) -> None:
        self._root = root
        self._most = most
        self._processes = processes

    def size(self, checkpoint_id: str) -> int:
        """What a model will take, by its file; 0 for one that cannot be read."""
        try:
            return (self._root / checkpoint_id / _WEIGHTS).stat().st_size + OBJECT_BYTES
        except OSError:  # who loads it will say what is wrong
            return 0

    def has(self, size: int) -> bool:
        """Whether so many bytes more fit."""
        return self._taken() + size <= self._most

    def empty(self, process: Process) -> bool:
        """Lets go of all that a process does not use just now. Whether there was any."""
        free = [one for one in process.warm if not process.uses(one)]
        for one in free:
            process.unload(one)
        return bool(free)

    def make(self, size: int, *, beside: str | None = None) -> None:
        """Lets go of what was used least lately, until so many bytes more fit, but not of `beside`
        or of what a process has something to do with; what waits elsewhere for it loads it again.
        """
        while not self.has(size):
            free = [
                (held.used, process, one)
                for process in self._processes
                for one, held in process.warm.items()
                if one != beside and not process.uses(one)
            ]
            if not free:
                return
            _, process, oldest = min(free, key=lambda one: one[0])
            process.unload(oldest)

    def _taken(self) -> int:
        """By what is loaded, and by what is being loaded."""
        return sum(
            sum(held.memory_bytes for held in process.warm.values())
            + sum(map(self.size, process.loading))
            for process in self._processes
        )
