"""Large files on their way in: written to disk piece by piece while they are hashed.

Knows no forms, no data sets and no weights: what the bytes are is not asked here.
"""

import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from anyio.to_thread import run_sync

from data_store import durable, limits
from data_store.limits import SPARE_BYTES, Free
from problems import Problem

_PART = ".part"
_HELD_BYTES = 1_000_000  # gathered before a thread is asked to write them
_HELD_SECONDS = 10.0
_STALE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Archive:
    """An upload that is whole and safely on disk."""

    path: Path
    sha256: str
    size: int

    def discard(self) -> None:
        """Removes it: nobody wants it."""
        self.path.unlink(missing_ok=True)


class Arrival:
    """An upload while it comes in: `write` its pieces, then `keep`. Left otherwise, none of it
    stays. `announced` is its size in bytes, as far as it is known; `what` it is, for messages.

    Raises `Problem` disk_full as soon as it is clear that there is no room, and body_too_large.
    """

    def __init__(
        self,
        folder: Path,
        *,
        most: int,
        announced: int | None,
        what: str = "archive",
        free: Free = limits.free_bytes,
    ) -> None:
        self._folder = folder
        self._what = what
        self._most = most
        self._announced = announced
        self._free = free
        self._part = folder / f"{uuid4().hex}{_PART}"
        self._digest = sha256()
        self._size = 0
        self._held = bytearray()
        self._wrote = time.monotonic()

    async def __aenter__(self) -> Self:
        await run_sync(self._open)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Not in a thread: a request that is cancelled must not wait for one.
        try:
            with suppress(OSError):  # of a full disk, which has been told: it writes what is left
                self._file.close()
        finally:
            self._part.unlink(missing_ok=True)

    async def write(self, piece: bytes) -> None:
        """Takes the next bytes."""
        self._size += len(piece)
        if self._size > self._most:
            raise Problem(
                "body_too_large", f"The {self._what} is larger than {self._most:,} bytes."
            )
        self._held += piece
        held_for = time.monotonic() - self._wrote
        if len(self._held) >= _HELD_BYTES or held_for >= _HELD_SECONDS:
            await run_sync(self._flush)

    async def keep(self) -> Archive:
        """The whole upload, in a file of its own. Raises `Problem` empty_file too."""
        if not self._size:
            raise Problem("empty_file", f"The {self._what} has no bytes.")
        return await run_sync(self._finish)

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._leave_room(self._announced or 0)
        self._file = self._part.open("xb")

    def _flush(self) -> None:
        self._leave_room(len(self._held))
        self._digest.update(self._held)
        try:
            self._file.write(self._held)
            self._file.flush()
        except OSError as error:
            if limits.is_full(error):
                raise self._full() from error
            raise
        self._held.clear()
        self._wrote = time.monotonic()

    def _finish(self) -> Archive:
        self._flush()
        durable.to_disk(self._file)
        path = self._part.with_suffix("")
        self._part.rename(path)
        durable.folder_to_disk(self._folder)
        return Archive(path, self._digest.hexdigest(), self._size)

    def _leave_room(self, needed: int) -> None:
        if self._free(self._folder) - needed < SPARE_BYTES:
            raise self._full()

    def _full(self) -> Problem:
        free = self._free(self._folder)
        size = f"{self._announced:,} bytes" if self._announced else "it"
        return Problem(
            "disk_full",
            f"There is no room for the {self._what}: {size} would leave less than "
            f"{SPARE_BYTES:,} bytes free of {free:,}.",
        )


def sweep(folder: Path, wanted: Collection[str]) -> None:
    """Removes what no upload and no job is to be heard of any more: parts that nothing was written
    to for an hour, and whole files as old that are none of `wanted`.
    """
    for path in folder.glob("*"):
        try:
            old = time.time() - path.stat().st_mtime > _STALE_SECONDS
        except OSError:  # another server was faster
            continue
        if old and path.name not in wanted:
            path.unlink(missing_ok=True)
