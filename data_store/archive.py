"""An archive of images becomes a folder that danlu can train on.

Writes the images and nothing else, and nothing at all where it must refuse. Whether the images can
be read is not asked here.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_store import entries, layout, limits
from data_store.encodings import Encoding
from data_store.layout import Arrangement, LeftOut
from data_store.limits import Free, Room
from data_store.progress import Progress, paced
from data_store.tars import Compression, Tar
from data_store.zips import Zip
from problems import Problem

PHASE = "unpacking"

_CHUNK = 1 << 20
_RAW = ".unpacked"  # files by number, until all names are known
_COMPRESSIONS: tuple[tuple[bytes, Compression], ...] = (
    (b"\x1f\x8b", "gz"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
)
_REFUSED = (
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard"),
)
_HINT = "Pack the folder of images as a zip or tar."


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What came of an archive: how many images, the files that were left out, and the `encoding` of
    names that did not say theirs.
    """

    images: int
    left_out: Sequence[LeftOut]
    encoding: Encoding

    def in_words(self) -> str:
        """What was left out, counted by the reason."""
        counts = Counter(each.why for each in self.left_out)
        return ", ".join(f"{count:,} {why}" for why, count in counts.most_common())


@dataclass(frozen=True, slots=True)
class _Arranged(Arrangement):
    encoding: Encoding


def unpack(
    archive: Path,
    into: Path,
    progress: Progress,
    *,
    known: Collection[str] = (),
    free: Free = limits.free_bytes,
) -> Unpacked:
    """Writes the images of a zip or tar into the new folder `into`, in danlu's layout.

    `known` are the classes of a data set that they are to be added to. Progress is counted in bytes
    of the archive, in the phase "unpacking". Whatever it raises stops the work, and then, as for
    any refusal, nothing is left of `into`. Raises `Problem` archive_invalid, archive_unsafe,
    archive_too_large, dataset_invalid, disk_full.
    """
    (into / _RAW).mkdir(parents=True)
    try:
        return _unpack(archive, into, progress, known=known, room=Room(into, free))
    except BaseException as error:
        shutil.rmtree(into, ignore_errors=True)
        if limits.is_full(error):
            raise limits.full("The disk filled up while the archive was unpacked.") from error
        raise


def _unpack(
    archive: Path, into: Path, progress: Progress, *, known: Collection[str], room: Room
) -> Unpacked:
    advance = paced(progress, PHASE, archive.stat().st_size)
    arranged = None
    with closing(_open(archive, lambda: advance(0))) as opened:
        advance(0)
        if isinstance(opened, Zip):
            # Refuses before anything is written.
            arranged = _arrange(opened, known, tick=lambda: advance(0))
            room.need(sum(map(opened.size, arranged.places)))
        too_large = _write(opened, arranged, into / _RAW, advance, room)
        if arranged is None or too_large:
            arranged = _arrange(opened, known, tick=lambda: advance(0), too_large=too_large)
        rest = opened.total - opened.done
    _move(arranged, into, lambda: advance(0))
    advance(rest)
    return Unpacked(len(arranged.places), arranged.left_out, arranged.encoding)


def check_kind(archive: Path) -> None:
    """Raises `Problem` archive_invalid for what is neither a zip nor a tar, as far as a look at its
    ends can tell.
    """
    _kind(archive)


def _open(archive: Path, tick: Callable[[], None]) -> Zip | Tar:
    kind = _kind(archive)
    return Zip(archive) if kind == "zip" else Tar(archive, kind, tick)


def _kind(archive: Path) -> Compression | Literal["zip"]:
    with archive.open("rb") as file:
        start = file.read(512)
    for magic, what in _REFUSED:
        if start.startswith(magic):
            raise Problem(
                "archive_invalid", f"This is {what}, which danlu does not read.", hint=_HINT
            )
    for magic, compression in _COMPRESSIONS:
        if start.startswith(magic):
            return compression
    if _is_tar(start):
        return ""
    if start.startswith(b"PK") or _ends_as_zip(archive):
        return "zip"
    raise Problem("archive_invalid", "This is no archive: neither a zip nor a tar.", hint=_HINT)


def _is_tar(start: bytes) -> bool:
    """By the checksum of its first header, which all kinds of tar have, or by being empty."""
    if len(start) < 512:
        return False
    total = sum(start[:148]) + sum(start[156:]) + 8 * ord(" ")
    written = start[148:156].strip(b" \0")
    return not any(start) or (written.isdigit() and int(written, 10) == int(f"{total:o}"))


def _ends_as_zip(archive: Path) -> bool:
    """A zip may have a program in front that unpacks it."""
    with archive.open("rb") as file:
        file.seek(-min(archive.stat().st_size, 66_000), 2)
        return b"PK\x05\x06" in file.read()


def _arrange(
    opened: Zip | Tar,
    known: Collection[str],
    *,
    tick: Callable[[], None],
    too_large: Collection[int] = (),
) -> _Arranged:
    read = entries.read(list(opened.names.values()), tick)
    paths = dict(zip(opened.names, read.paths, strict=True))
    found = layout.arrange(paths, known=known, too_large=too_large)
    return _Arranged(found.places, found.left_out, read.encoding)


def _write(
    opened: Zip | Tar,
    arranged: _Arranged | None,
    raw: Path,
    advance: Callable[[int], None],
    room: Room,
) -> Collection[int]:
    """Each image under its number; the numbers of those that are too large to be one."""

    def is_wanted(number: int) -> bool:
        if arranged is not None:
            return number in arranged.places
        return layout.may_be_image(opened.names[number].raw)

    told = total = 0
    too_large = set()
    for number, stream in opened.files(is_wanted):
        size = 0
        with (raw / str(number)).open("xb") as file:
            while chunk := stream.read(_CHUNK):
                size += len(chunk)
                if size > limits.MOST_IMAGE_BYTES:
                    too_large.add(number)
                    break
                file.write(chunk)
                room.written(len(chunk))
                limits.check_ratio(total + size, opened.total)
                advance(0)
        total += size
        advance(opened.done - told)
        told = opened.done
    advance(opened.done - told)
    return too_large


def _move(arranged: _Arranged, into: Path, tick: Callable[[], None]) -> None:
    """Files from where they are by number to where they belong; what belongs nowhere goes."""
    raw = into / _RAW
    for folder in {into / path.rpartition("/")[0] for path in arranged.places.values()}:
        folder.mkdir(parents=True, exist_ok=True)
    for number, path in arranged.places.items():
        (raw / str(number)).rename(into / path)
        tick()
    shutil.rmtree(raw)
