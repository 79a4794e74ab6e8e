"""Files of arrays in numpy's format that grow while they are written, and a seal of each: its size
and a checksum, by which one that was cut short or altered is found.

Knows nothing of what the arrays mean. CRC-32 finds accidents, not what is done on purpose.
"""

import io
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_store import durable

_CHUNK_BYTES = 1 << 18  # stays in a core's cache from reading to summing


@dataclass(frozen=True, slots=True)
class Seal:
    """`crc32` is of the data, from byte `data_at` on, and then of the header before it: what the
    header says is only known at the end.
    """

    bytes: int
    data_at: int
    crc32: int


class Growing:
    """A file that arrays like `first`, of any number of rows, are appended to.

    Nothing is held in memory, and a full disk is an error, where a mapped file would kill the
    process.
    """

    def __init__(self, path: Path, first: NDArray[Any]) -> None:
        self._rows, self._row, self._type = 0, first.shape[1:], first.dtype.str
        self._bytes = self._crc32 = 0
        self._file = path.open("wb")
        self._file.write(self._header())

    def add(self, rows: NDArray[Any]) -> None:
        """Appends rows, (N, ...)."""
        data = np.ascontiguousarray(rows).data
        self._file.write(data)
        self._crc32 = zlib.crc32(data, self._crc32)
        self._bytes += data.nbytes
        self._rows += len(rows)

    def finish(self) -> Seal:
        """Returns when the file is whole and safely on disk."""
        header = self._header()  # numpy pads it, so that any count takes as much room
        self._file.seek(0)
        self._file.write(header)
        durable.to_disk(self._file)
        self._file.close()
        return Seal(len(header) + self._bytes, len(header), zlib.crc32(header, self._crc32))

    def drop(self) -> None:
        """Closes it as it is, on a full disk too: what could not be written is of no use now."""
        with suppress(OSError):
            self._file.close()

    def _header(self) -> bytes:
        shape = (self._rows, *self._row)
        described = {"descr": self._type, "fortran_order": False, "shape": shape}
        file = io.BytesIO()
        np.lib.format.write_array_header_1_0(file, described)
        return file.getvalue()


def fault(path: Path, seal: Seal, *, checksums: bool, heard: Callable[[int], object]) -> str | None:
    """What is wrong with a file, None if nothing is; without `checksums` only its size is looked
    at. `heard` is told of each chunk that was read, in bytes; what it raises ends the reading.

    Reads instead of mapping: what the disk cannot give is an answer then, where a mapped file would
    kill the process.
    """
    try:
        if path.stat().st_size != seal.bytes:
            return f"{path.name} has another size than was written"
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        return f"{path.name} is missing"
    except OSError as error:
        return f"{path.name} cannot be read: {error.strerror}"
    with file:
        try:
            intact = not checksums or _crc32(file, seal, heard) == seal.crc32
        except _Unreadable as error:
            return f"{path.name} cannot be read: {error}"
    return None if intact else f"{path.name} is not what was written"


class _Unreadable(Exception):
    """The disk's error, told from those that are raised by who hears."""


def _crc32(file: io.FileIO, seal: Seal, heard: Callable[[int], object]) -> int:
    chunk = bytearray(_CHUNK_BYTES)
    view, found = memoryview(chunk), 0
    header = bytes(view[: _fill(file, view[: seal.data_at])])
    while count := _fill(file, view):
        found = zlib.crc32(view[:count], found)
        heard(count)
    return zlib.crc32(header, found)


def _fill(file: io.FileIO, chunk: memoryview) -> int:
    try:
        return file.readinto(chunk) or 0
    except OSError as error:
        raise _Unreadable(error.strerror) from None
