"""How much memory this machine, or the container that it looks like, can still give.

Knows nothing of what it is wanted for.
"""

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# Of what is available: the rest is for the network, for batches, and for whatever else runs here.
_SHARE = 0.5


def give_back() -> None:
    """Returns to the system what is not used any more, such as that of a million small objects,
    where C's library would keep it for more of them. Takes some milliseconds.
    """
    gc.collect()
    with suppress(AttributeError, OSError, TypeError):  # GNU's alone has it
        ctypes.CDLL(None).malloc_trim(0)


def for_images(*, system: Path = Path("/")) -> int:
    """Bytes that decoded images may take of it."""
    return int(available(system=system) * _SHARE)


def available(*, system: Path = Path("/")) -> int:
    """Bytes that can be had without swapping, as far as the system tells: under Linux what it says
    itself, or what a limit of its control group leaves if that is less; elsewhere half of all.
    """
    found = [*_of_machine(system), *_of_groups(system)]
    if found:
        return max(0, min(found))
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _of_machine(system: Path) -> Iterator[int]:
    with suppress(OSError):
        for line in (system / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) * 1024


def _of_groups(system: Path) -> Iterator[int]:
    """Of each control group (version 2) that this process is in, and that has a limit."""
    root = system / "sys/fs/cgroup"
    with suppress(OSError, ValueError, IndexError):
        [line] = (system / "proc/self/cgroup").read_text().splitlines()
        folder = root / line.split("::", 1)[1].strip("/")
        for group in (folder, *folder.parents):
            if group == root.parent:
                return
            with suppress(OSError, ValueError):  # without a limit, "max"
                most = int((group / "memory.max").read_text())
                yield most - int((group / "memory.current").read_text()) + _cached(group)


def _cached(group: Path) -> int:
    """Of files, which the system gives back when somebody needs the memory."""
    pairs = (line.split() for line in (group / "memory.stat").read_text().splitlines())
    return sum(int(count) for name, count in pairs if name in ("active_file", "inactive_file"))
