"""Tar archives, plain or compressed: each file as a stream, in the order in which they come.

tarfile reads the headers, from a stream that says how much it may read: it believes every size that
it is told. Knows nothing of images and of where files go.
"""

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, cast

from data_store import entries, limits
from data_store.entries import Content, Name
from problems import Problem

Compression = Literal["", "gz", "bz2", "xz"]

_CHUNK = 1 << 20
# Names, and what some programs add to them, of one file. tarfile takes a header inside a header for
# a reason to call itself: 512 bytes each, so that these stay far from the end of the stack.
_MOST_HEADER_BYTES = 100_000
# xz unpacks with as much memory as the archive asks for. `xz -9` asks for 65 MB.
_XZ_BYTES = 200_000_000
_DAMAGED = (
    *(tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile),
    *(ValueError, OverflowError, RecursionError),
)


class Tar:
    """A tar. `names` has the files by number, as far as they have come.

    Raises `Problem` archive_invalid, archive_unsafe, archive_too_large. `tick` is called while long
    stretches are passed over.
    """

    def __init__(self, path: Path, compression: Compression, tick: Callable[[], None]) -> None:
        self.names: dict[int, Name] = {}
        self.total = path.stat().st_size
        self._name_bytes = 0
        self._file = path.open("rb")
        inside = _unpacked(self._file, compression)
        self._stream = _Stream(inside, self._file, tick)

    @property
    def done(self) -> int:
        """Bytes of the archive that were read."""
        return self._file.tell()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def files(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, Content]]:
        """Each wanted file, one after the other: to be read before the next is taken."""
        try:
            yield from self._files(wanted)
        except _DAMAGED as error:
            raise _damaged(str(error)) from error
        except OSError as error:  # bz2 says so of damage, and the system gives a number
            if error.errno is not None:
                raise
            raise _damaged(str(error)) from error

    def _files(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, Content]]:
        with self._stream.header():
            tar = tarfile.TarFile(fileobj=self._stream, encoding="utf-8")
        for number in range(entries.MOST_ENTRIES + 1):
            with self._stream.header():
                member = tar.next()
            if member is None:
                self._stream.check_end()
                return
            tar.pax_headers, vars(tar)["members"] = {}, []  # it keeps all that it has read
            self._take(number, member)
            content = tar.extractfile(member) if number in self.names and wanted(number) else None
            if content is not None:
                yield number, _Metered(content)
        raise entries.too_many()

    def _take(self, number: int, member: tarfile.TarInfo) -> None:
        """Checks an entry, and notes its name if it is a file."""
        raw = member.name.encode("utf-8", "surrogateescape")
        entries.check_length(raw)
        if member.islnk() or member.issym():
            raise entries.link(member.name)
        if member.ischr() or member.isblk() or member.isfifo():
            raise entries.device(member.name)
        if member.name.isascii():  # others are looked at when their encoding is known
            entries.path(member.name)
        if member.isfile():
            self._name_bytes += len(raw)
            if self._name_bytes > entries.MOST_NAMES_BYTES:
                raise entries.too_many()
            said = member.pax_headers
            known = "path" in said and said.get("hdrcharset") != "BINARY"
            self.names[number] = Name(raw, known)


class _Stream(io.RawIOBase):
    """A tar that is only read forward."""

    def __init__(self, inside: IO[bytes], packed: IO[bytes], tick: Callable[[], None]) -> None:
        self._inside = inside
        self._packed = packed
        self._tick = tick
        self._at = 0
        self._last = b""
        self._budget: int | None = None

    @contextmanager
    def header(self) -> Iterator[None]:
        """While tarfile reads one: it gets no more bytes than a header has."""
        self._budget = _MOST_HEADER_BYTES
        yield
        self._budget = None

    def check_end(self) -> None:
        """tarfile takes whatever is no header for the end; only zeros are."""
        if len(self._last) != tarfile.BLOCKSIZE or any(self._last):
            raise EOFError("its end is missing")

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        if self._budget is not None:
            self._budget -= size
            if self._budget < 0:
                raise tarfile.ReadError("a header is too long")
        data = self._inside.read(size)
        self._at += len(data)
        if self._budget is not None:
            self._last = data
        limits.check_ratio(self._at, self._packed.tell())
        return data

    def seek(self, to: int, _whence: int = 0, /) -> int:
        if to < self._at:
            raise tarfile.ReadError("a size is negative")
        while self._at < to:
            size = len(self._inside.read(min(_CHUNK, to - self._at)))
            if not size:
                break
            self._at += size
            limits.check_ratio(self._at, self._packed.tell())
            self._tick()
        return self._at


class _Metered:
    """A file in a tar. Raises `Problem` for what was cut off."""

    def __init__(self, content: IO[bytes]) -> None:
        self._content = content

    def read(self, size: int, /) -> bytes:
        try:
            return self._content.read(size)
        except _DAMAGED as error:
            raise _damaged(str(error)) from error


class _Xz(io.RawIOBase):
    """What is in an xz file, with a limit to the memory that this takes, which LZMAFile has not."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._unpacking = self._begin()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while True:
            if self._unpacking.eof:
                rest = self._unpacking.unused_data.lstrip(b"\0") or self._file.read(_CHUNK)
                if not rest.lstrip(b"\0"):
                    return 0
                self._unpacking = self._begin()
            elif self._unpacking.needs_input:
                rest = self._file.read(_CHUNK)
                if not rest:
                    raise EOFError("it was cut off")
            else:
                rest = b""
            data = self._unpacking.decompress(rest, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)

    def _begin(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_BYTES)


def _unpacked(file: IO[bytes], compression: Compression) -> IO[bytes]:
    if compression == "":
        return file
    kinds: dict[str, Callable[[], Any]] = {
        "gz": lambda: gzip.GzipFile(fileobj=file),
        "bz2": lambda: bz2.BZ2File(file),
        "xz": lambda: _Xz(file),
    }
    return cast("IO[bytes]", io.BufferedReader(kinds[compression](), _CHUNK))


def _damaged(what: str) -> Problem:
    return Problem(
        "archive_invalid",
        f"The tar is damaged or was cut off ({what}).",
        hint="Make it again, or send it again: the upload may have been cut off.",
    )
