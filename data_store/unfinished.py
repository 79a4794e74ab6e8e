"""A file on its way: `<name>.part` beside its place holds what has come, for as long as it takes.

It belongs to one process at a time; others see it grow, and take it over when that one is gone.
Knows nothing of servers: `source` is whoever gave some bytes.
"""

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep, time
from typing import Any

from data_store import durable
from data_store.built_in import SETS

STALE_SECONDS = 14 * 24 * 3600.0
_SUFFIX = ".part"
_LOOK_SECONDS = 0.1
_CHUNK = 1 << 20
_BUSY = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}

At = Callable[[int], None]
"""Told how many bytes are there, ten times a second; may raise to stop."""


@dataclass(slots=True)
class _Piece:
    """From `start` on; `before` is the digest of all that lies before it."""

    source: str
    start: int
    before: Any


class Unfinished:
    """What has come of a file. `size` counts what was read or written; see `held`."""

    def __init__(self, path: Path, descriptor: int, algorithm: str) -> None:
        self._path = path
        self._descriptor = descriptor
        self._algorithm = algorithm
        self.clear(keep=True)

    def clear(self, *, keep: bool = False) -> None:
        """Throws everything away; `keep` leaves alone what is on the disk, for `read`."""
        if not keep:
            os.ftruncate(self._descriptor, 0)
        self.size = 0
        self._digest = hashlib.new(self._algorithm, usedforsecurity=False)
        self._pieces: list[_Piece] = []

    def read(self, at: At) -> None:
        """Takes in what an earlier process left."""
        self.begin("")
        there = os.lseek(self._descriptor, 0, os.SEEK_END)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        while chunk := os.read(self._descriptor, _CHUNK):
            self._digest.update(chunk)
            self.size += len(chunk)
            at(there)

    def begin(self, source: str) -> None:
        """What is written from now on comes from there."""
        if self.last_source != source:
            self._pieces.append(_Piece(source, self.size, self._digest.copy()))

    def write(self, data: bytes) -> None:
        """Appends."""
        left = memoryview(data)
        while left:
            left = left[os.write(self._descriptor, left) :]
        self._digest.update(data)
        self.size += len(data)

    def drop(self, source: str) -> None:
        """Throws away what came from there last, if the last bytes did."""
        while self._pieces and self.last_source == source:
            piece = self._pieces.pop()
            self.size, self._digest = piece.start, piece.before
            os.ftruncate(self._descriptor, self.size)

    @property
    def last_source(self) -> str | None:
        """Where the last bytes came from."""
        return self._pieces[-1].source if self._pieces else None

    def is_all_from(self, source: str) -> bool:
        """Whether nobody else gave a byte of it."""
        ends = [*(piece.start for piece in self._pieces[1:]), self.size]
        return all(
            piece.source == source or piece.start == end
            for piece, end in zip(self._pieces, ends, strict=True)
        )

    def hexdigest(self) -> str:
        """Of all that is there."""
        return str(self._digest.hexdigest())

    def finish(self, target: Path) -> None:
        """Gives it its place and name, safely on disk."""
        os.fsync(self._descriptor)
        self._path.replace(target)
        durable.folder_to_disk(target.parent)


@contextmanager
def held(target: Path, algorithm: str, *, waiting: At) -> Iterator[Unfinished]:
    """What has come of `target` so far, for this process alone; `read` it first.

    While another process has it, `waiting` is told its size. Raises `OSError`.
    """
    path = path_of(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            while not _lock(descriptor):
                waiting(os.fstat(descriptor).st_size)
                sleep(_LOOK_SECONDS)
            if not _lies_at(descriptor, path):
                continue  # whoever had it has finished it or thrown it away
            try:
                yield Unfinished(path, descriptor, algorithm)
            finally:
                if _lies_at(descriptor, path) and not os.fstat(descriptor).st_size:
                    path.unlink(missing_ok=True)
            return
        finally:
            os.close(descriptor)


def path_of(target: Path) -> Path:
    """Where the part of a file lies that has come."""
    return target.with_name(target.name + _SUFFIX)


def size(target: Path) -> int:
    """How many bytes of a file have come."""
    try:
        return path_of(target).stat().st_size
    except OSError:
        return 0


def sweep(datasets: Path, weights: Path) -> None:
    """Removes what has not grown for two weeks and nobody works at."""
    files = [(row, file) for row in SETS.values() for file in row.files]
    places = {datasets / row.folder / file.name for row, file in files}
    places |= {datasets / unpacked for _, file in files for unpacked in file.holds}
    found = {path for place in places for path in place.parent.glob(f"{place.name}*{_SUFFIX}")}
    for path in found.union(weights.glob(f"*{_SUFFIX}")):
        with contextlib.suppress(OSError):
            _remove_stale(path)


def _remove_stale(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        old = time() - os.fstat(descriptor).st_mtime > STALE_SECONDS
        if old and _lock(descriptor) and _lies_at(descriptor, path):
            path.unlink()
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Whether the file is ours now, until it is closed or this process is gone. Where a disk knows
    no locks two may write at once; the checksum finds out.
    """
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _BUSY
    return True


def _lies_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
