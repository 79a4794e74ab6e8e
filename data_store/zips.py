"""Zip archives: what is in them, and each file as a stream.

zipfile does the reading. It holds the whole directory in memory and trusts it, so that is looked at
first. Knows nothing of images and of where files go.
"""

import errno
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from data_store import entries, limits
from data_store.entries import Advance, Content, Name
from problems import Problem

# A directory of the most entries that are taken, with long names.
_MOST_DIRECTORY_BYTES = 64_000_000
_ENTRY = b"PK\x01\x02"  # each one in the directory begins so
_UTF8, _ENCRYPTED = 0x800, 0x1 | 0x40
_UNICODE_PATH = 0x7075  # APPNOTE.TXT 4.6.9: Info-ZIP Unicode Path
# Of the others zipfile unpacks at once what it has read: 40 bytes of bzip2 can be 45 MB.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What zipfile raises for damaged archives, and what is beneath it: NotImplementedError for versions
# and flags that it does not know, IndexError and OverflowError for fields that lie.
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, EOFError, ValueError, struct.error, OSError),
    *(NotImplementedError, IndexError, OverflowError),
)


class Zip:
    """A zip. `names` has the files in it by number, folders not among them.

    Raises `Problem` archive_invalid, archive_unsafe, archive_too_large.
    """

    def __init__(self, path: Path) -> None:
        self.total = path.stat().st_size
        self._file = _Looking(io.FileIO(path))
        try:
            with _damage_told():
                self._zip = zipfile.ZipFile(self._file)
                self._members = [_checked(member) for member in self._zip.infolist()]
                if sum(member.compress_size for member in self._members) > self.total:
                    raise zipfile.BadZipFile("its files overlap")
                self.names = {
                    number: _name(member)
                    for number, member in enumerate(self._members)
                    if not member.is_dir() and not member.filename.endswith("\\")
                }
        except BaseException:
            self._file.close()
            raise
        self._file.looks = False

    def close(self) -> None:
        """Closes the file."""
        self._zip.close()
        self._file.close()

    def size(self, number: int) -> int:
        """Of a file, unpacked, as the archive says."""
        return self._members[number].file_size

    def files(self, wanted: Container[int], advance: Advance) -> Iterator[tuple[int, Content]]:
        """Each wanted file, one after the other: to be read before the next is taken. `advance` is
        told how many bytes of the archive more are done.
        """
        rest = self.total
        for number in self.names:
            if number not in wanted:
                continue
            member = self._members[number]
            with _damage_told(member.filename):
                stream = self._zip.open(member)
            with stream:
                yield number, _Metered(stream, member)
            rest -= member.compress_size
            advance(member.compress_size)
        advance(rest)


class _Looking(io.BufferedReader):
    """The file of an archive, as long as it `looks` with an eye on how large its directory is."""

    looks = True

    def read(self, size: int | None = -1, /) -> bytes:
        if self.looks and size is not None and size > _MOST_DIRECTORY_BYTES:
            raise entries.too_many()
        data = super().read(size)
        if self.looks and data.count(_ENTRY) > entries.MOST_ENTRIES:
            raise entries.too_many()
        return data


class _Metered:
    """A file in a zip. Raises `Problem` for damage, and for what is more than it can be."""

    def __init__(self, stream: IO[bytes], member: zipfile.ZipInfo) -> None:
        self._stream = stream
        self._member = member
        self._count = 0

    def read(self, size: int, /) -> bytes:
        with _damage_told(self._member.filename):
            data = self._stream.read(size)
        self._count += len(data)
        limits.check_entry(self._count, self._member.compress_size)
        return data


def _checked(member: zipfile.ZipInfo) -> zipfile.ZipInfo:
    if member.flag_bits & _ENCRYPTED:
        raise Problem(
            "archive_invalid",
            f"{entries.shown(member.filename)} is protected by a password.",
            hint="Pack the images without a password.",
        )
    if member.compress_type not in _METHODS:
        raise Problem(
            "archive_invalid",
            f"{entries.shown(member.filename)} is packed with a method that danlu does not read: "
            f"number {member.compress_type}.",
            hint="Pack the images as an ordinary zip (deflate), or as a tar.",
        )
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise entries.link(member.filename)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise entries.device(member.filename)
    return member


def _name(member: zipfile.ZipInfo) -> Name:
    if member.flag_bits & _UTF8:
        return Name(member.orig_filename.encode(), known=True)
    raw = member.orig_filename.encode("cp437")  # as zipfile has decoded it
    unicode = _unicode_path(member.extra, raw)
    return Name(raw, known=False) if unicode is None else Name(unicode, known=True)


def _unicode_path(extra: bytes, raw: bytes) -> bytes | None:
    """The name in UTF-8 that Info-ZIP adds, unless somebody has renamed the entry since."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        data, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and len(data) > 5:
            version, crc = struct.unpack_from("<BL", data)
            if version == 1 and crc == zlib.crc32(raw):
                return data[5:]
    return None


@contextmanager
def _damage_told(name: str = "") -> Iterator[None]:
    """Raises `Problem` for what zipfile raises, of the file `name` or of the directory."""
    try:
        yield
    except _DAMAGED as error:
        # The system has numbers for what is no damage; EINVAL is of a place before the beginning.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        what = f"{entries.shown(name)}: {error}" if name else error
        raise Problem(
            "archive_invalid",
            f"The zip is damaged or was cut off ({what}).",
            hint="Make it again, or send it again: the upload may have been cut off.",
        ) from error
