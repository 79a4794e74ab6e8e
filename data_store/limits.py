"""How much an archive may become, counted in what was really unpacked and never as it says.

Knows nothing of formats.
"""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

from problems import Problem

# Images are packed already, and even plain bitmaps of one colour seldom shrink to less.
MOST_RATIO = 200
# What is smaller than this harms nobody, whatever it was packed into.
_HARMLESS_ENTRY_BYTES = 16_000_000
_HARMLESS_BYTES = 64_000_000
# Larger than any image of 100 megapixels is when it is packed at all. Images are read as a whole.
MOST_IMAGE_BYTES = 200_000_000
# The database and the jobs that run go on writing while an archive is unpacked.
SPARE_BYTES = 100_000_000
_LOOK_BYTES = 64_000_000

Free = Callable[[Path], int]


def free_bytes(folder: Path) -> int:
    """Of the disk that `folder` is on."""
    return shutil.disk_usage(folder).free


def check_ratio(unpacked: int, packed: int, *, harmless: int = _HARMLESS_BYTES) -> None:
    """Raises `Problem` archive_too_large when `packed` bytes became too many."""
    if unpacked > harmless and unpacked > MOST_RATIO * max(packed, 1):
        raise Problem(
            "archive_too_large",
            f"The archive unpacks to more than {MOST_RATIO} times its size, as no images do.",
            hint="Bitmaps of one colour can: save the images as PNG, and pack those.",
        )


def check_entry(unpacked: int, packed: int) -> None:
    """The same for one file, which is harmless up to some MB."""
    check_ratio(unpacked, packed, harmless=_HARMLESS_ENTRY_BYTES)


class Room:
    """The disk below `folder` while files are written there: some of it stays free."""

    def __init__(self, folder: Path, free: Free = free_bytes) -> None:
        self._folder = folder
        self._free = free
        self._unseen = 0

    def need(self, size: int) -> None:
        """Raises `Problem` disk_full when so many bytes have no room."""
        free = self._free(self._folder)
        if free - size < SPARE_BYTES:
            raise full(
                f"The images take {size:,} bytes; {free:,} are free, of which {SPARE_BYTES:,} "
                "are left to others."
            )

    def written(self, size: int) -> None:
        """So many bytes more. Looks now and then; raises `Problem` disk_full."""
        self._unseen += size
        if self._unseen >= _LOOK_BYTES:
            self._unseen = 0
            self.need(0)


def full(detail: str) -> Problem:
    """The problem of a full disk."""
    return Problem("disk_full", detail)


def is_full(error: BaseException | None) -> bool:
    """Whether the system says that the disk is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
