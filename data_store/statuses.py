"""Sizes and times of many files, asked for by several processes: the system takes a microsecond for
each, and Python's threads would wait for each other.

Knows nothing of what the files are.
"""

import marshal
import os
import subprocess
import sys
from array import array
from contextlib import ExitStack, suppress
from tempfile import TemporaryFile

from data_store import asking

# Folders, each with the names of files in it.
Folders = list[tuple[str, list[str]]]
# Of files, in order: bytes, and when they were last changed, in ns.
Statuses = tuple["array[int]", "array[int]"]

_WORTH = 10_000  # files: from here on another process pays
_LATE = 5_000  # files that this process asks for while another comes up
_MOST = 3


def of(folders: Folders, *, processes: int | None = None) -> Statuses:
    """Of all files of all folders, links followed, with so many processes beside the caller's;
    None: as many as pay. Raises `OSError` for a file that is gone.
    """
    count = sum(len(names) for _, names in folders)
    if processes is None:
        processes = min(_cores() - 1, _MOST) if count >= _WORTH else 0
    each = max(0, count - _LATE) // (processes + 1)
    own, rest = _split(folders, count - processes * each)
    with ExitStack() as ends:
        helpers = []
        for _ in range(processes):
            share, rest = _split(rest, each)
            helpers.append(_Helper(share, ends))
        sizes, times = asking.ask(own)
        for helper in helpers:
            more = helper.answer()
            sizes.extend(more[0])
            times.extend(more[1])
    return sizes, times


def _split(folders: Folders, count: int) -> tuple[Folders, Folders]:
    """The first `count` files, and the others."""
    for place, (folder, names) in enumerate(folders):
        if count < len(names):
            first, rest = (folder, names[:count]), (folder, names[count:])
            return [*folders[:place], first], [rest, *folders[place + 1 :]]
        count -= len(names)
    return folders, []


class _Helper:
    """Another process with a share of the files, until what it is given `ends`. It reads and writes
    files without a name, where two that talk over pipes would wait for each other.
    """

    def __init__(self, share: Folders, ends: ExitStack) -> None:
        self._share = share
        self._process: subprocess.Popen[bytes] | None = None
        with suppress(OSError):  # no room on the disk, no more processes
            told = TemporaryFile(buffering=0)  # noqa: SIM115 - `ends` closes it
            self._told = ends.enter_context(told)
            with TemporaryFile() as asked:
                marshal.dump(share, asked)
                asked.seek(0)
                command = [sys.executable, "-I", "-S", asking.__file__]
                self._process = subprocess.Popen(command, stdin=asked, stdout=self._told)
            ends.callback(self._process.wait)
            ends.callback(self._process.kill)

    def answer(self) -> Statuses:
        """What it found; what it did not, this process asks for. Raises `OSError`."""
        if self._process is not None and self._process.wait() == 0:
            self._told.seek(0)
            answered = self._told.read()
            half = 8 * sum(len(names) for _, names in self._share)
            if len(answered) == 2 * half:
                return array("q", answered[:half]), array("q", answered[half:])
        return asking.ask(self._share)


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
