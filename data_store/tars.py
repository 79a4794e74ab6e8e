"""Tar archives, plain or compressed: what is in them, and each file as a stream.

tarfile reads the headers, from a stream that says how much it may read: it believes every size that
it is told. Knows nothing of images and of where files go.
"""

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, cast

from data_store import entries, limits
from data_store.entries import Advance, Content, Name
from problems import Problem

Compression = Literal["", "gz", "bz2", "xz"]

_CHUNK = 1 << 20
# Names, and what some programs add to them, of one file. tarfile takes a header inside a header for
# a reason to call itself: 512 bytes each, so that these stay far from the end of the stack.
_MOST_HEADER_BYTES = 100_000
# xz unpacks with as much memory as the archive asks for. `xz -9` asks for 65 MB.
_XZ_BYTES = 200_000_000
_HOLE_BYTES = 150  # in memory, of each stretch between the holes of a sparse file
_NO_END = "its end is missing"
_DAMAGED = (
    *(tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile),
    *(ValueError, OverflowError, RecursionError),
)


class Tar:
    """A tar. `names` has the files in it by number, folders not among them.

    Its headers are all read when it is opened, which `advance` is told of in bytes of the archive;
    its files in a second pass. Raises `Problem` archive_invalid, archive_unsafe, archive_too_large.
    """

    def __init__(self, path: Path, compression: Compression, advance: Advance) -> None:
        self.names: dict[int, Name] = {}
        self.total = path.stat().st_size
        self._places: dict[int, _Place] = {}
        self._held_bytes = 0
        self._file = path.open("rb")
        try:
            with _damage_told():
                self._stream = _Stream(self._file, compression, advance)
                self._read_headers()
                self._stream.tell_rest()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def size(self, number: int) -> int:
        """Of a file, unpacked."""
        return self._places[number].size

    def files(self, wanted: Container[int], advance: Advance) -> Iterator[tuple[int, Content]]:
        """Each wanted file, one after the other: to be read before the next is taken. `advance` is
        told how many bytes of the archive more are done.
        """
        with _damage_told():
            self._stream.begin(advance)
            for number, place in self._places.items():
                if number in wanted:
                    member = tarfile.TarInfo()
                    member.offset_data, member.size, member.sparse = place
                    yield number, _Metered(cast("IO[bytes]", self._tar.extractfile(member)))
                    self._stream.tick()
            self._stream.tell_rest()

    def _read_headers(self) -> None:
        with self._stream.header():
            self._tar = tarfile.TarFile(fileobj=self._stream, encoding="utf-8")
        for number in range(entries.MOST_ENTRIES + 1):
            with self._stream.header():
                member = self._tar.next()
            if member is None:
                self._stream.check_end()
                return
            # It keeps all that it has read.
            self._tar.pax_headers, vars(self._tar)["members"] = {}, []
            self._take(number, member)
            self._stream.tick()
        raise entries.too_many()

    def _take(self, number: int, member: tarfile.TarInfo) -> None:
        """Checks an entry, and notes its name and place if it is a file."""
        raw = member.name.encode("utf-8", "surrogateescape")
        entries.check_length(raw)
        if member.islnk() or member.issym():
            raise entries.link(member.name)
        if member.ischr() or member.isblk() or member.isfifo():
            raise entries.device(member.name)
        if member.name.isascii():  # others are looked at when their encoding is known
            entries.path(member.name)
        if member.isfile():
            place = _Place(member.offset_data, member.size, member.sparse)
            self._held_bytes += len(raw) + _HOLE_BYTES * len(place.holes or ())
            if self._held_bytes > entries.MOST_NAMES_BYTES:
                raise entries.too_many()
            said = member.pax_headers
            known = "path" in said and said.get("hdrcharset") != "BINARY"
            self.names[number] = Name(raw, known)
            self._places[number] = place


class _Place(NamedTuple):
    """Where a file begins in the unpacked tar, its size, and what tarfile knows of its holes."""

    start: int
    size: int
    holes: Any  # what is between them is a list of pairs; None for ordinary files


class _Stream(io.RawIOBase):
    """A tar that is only read forward, once or again from its beginning."""

    def __init__(self, packed: IO[bytes], compression: Compression, advance: Advance) -> None:
        self._packed = packed
        self._compression = compression
        self._size = packed.seek(0, io.SEEK_END)
        self._last = b""
        self._budget: int | None = None
        self.begin(advance)

    def begin(self, advance: Advance) -> None:
        """From the beginning."""
        self._packed.seek(0)
        self._inside = _unpacked(self._packed, self._compression)
        self._at = self._told = 0
        self._advance = advance

    def tick(self) -> None:
        """Tells how far the archive has been read."""
        done = self._packed.tell()
        self._advance(done - self._told)
        self._told = done

    def tell_rest(self) -> None:
        """The work is done: what was not read of the archive is not wanted."""
        self._advance(self._size - self._told)

    @contextmanager
    def header(self) -> Iterator[None]:
        """While tarfile reads one: it gets no more bytes than a header has."""
        self._budget = _MOST_HEADER_BYTES
        yield
        self._budget = None

    def check_end(self) -> None:
        """tarfile takes whatever is no header for the end; only zeros are."""
        if len(self._last) != tarfile.BLOCKSIZE or any(self._last):
            raise EOFError(_NO_END)

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
        if self._compression == "":
            if to > self._size:
                raise EOFError(_NO_END)
            self._at = self._inside.seek(to)
        while self._at < to:
            size = len(self._inside.read(min(_CHUNK, to - self._at)))
            if not size:
                break
            self._at += size
            limits.check_ratio(self._at, self._packed.tell())
            self.tick()
        return self._at


class _Metered:
    """A file in a tar. Raises `Problem` for what was cut off."""

    def __init__(self, content: IO[bytes]) -> None:
        self._content = content

    def read(self, size: int, /) -> bytes:
        with _damage_told():
            return self._content.read(size)


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


@contextmanager
def _damage_told() -> Iterator[None]:
    """Raises `Problem` for what tarfile raises, and what is beneath it."""
    try:
        yield
    except _DAMAGED as error:
        raise _damaged(str(error)) from error
    except OSError as error:  # bz2 says so of damage, and the system gives a number
        if error.errno is not None:
            raise
        raise _damaged(str(error)) from error


def _damaged(what: str) -> Problem:
    return Problem(
        "archive_invalid",
        f"The tar is damaged or was cut off ({what}).",
        hint="Make it again, or send it again: the upload may have been cut off.",
    )
