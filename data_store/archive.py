"""An archive of images becomes a folder that danlu can train on.

Writes the images and nothing else, and nothing at all where it must refuse. Whether the images can
be read is not asked here.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_store import encodings, entries, layout, limits
from data_store.encodings import Encoding
from data_store.layout import Arrangement, LeftOut
from data_store.limits import Free, Room
from data_store.progress import Progress, paced
from data_store.report import Finding, finding
from data_store.tars import Compression, Tar
from data_store.zips import Zip
from problems import Problem

LISTING, PHASE = "listing", "unpacking"

_CHUNK = 1 << 20
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
    """What came of an archive: how many images, the files that were left out, and what was taken
    for the `encoding` of names that did not say theirs; `guessed` is one of these in each folder.
    """

    images: int
    left_out: Sequence[LeftOut]
    encoding: Encoding
    guessed: Sequence[str]

    def in_words(self) -> str:
        """What was left out, counted by the reason."""
        counts = Counter(each.why for each in self.left_out)
        return ", ".join(f"{count:,} {why}" for why, count in counts.most_common())

    def findings(self) -> Iterator[Finding]:
        """What its owner should look at. Names in UTF-8 are nothing of that: they hardly are by
        accident.
        """
        if self.guessed and self.encoding != "utf-8":
            yield finding(
                "names_guessed",
                len(self.guessed),
                "The archive does not say how its names are encoded: they were read as "
                f"{encodings.NAMES[self.encoding]}",
                "If they look wrong, pack the folder with names in UTF-8: as a tar, with zip on "
                "Linux or macOS, or with 7-Zip and the parameter cu=on.",
                ({"file": file} for file in self.guessed),
            )
        if self.left_out:
            count = len(self.left_out)
            yield finding(
                "files_left_out",
                count,
                f"{count:,} {'file' if count == 1 else 'files'} of the archive "
                f"{'was' if count == 1 else 'were'} left out: {self.in_words()}",
                " ".join(layout.ADVICE[why] for why in dict.fromkeys(e.why for e in self.left_out)),
                ({"file": each.file, "why": each.why} for each in self.left_out),
            )


@dataclass(frozen=True, slots=True)
class _Arranged(Arrangement):
    encoding: Encoding
    guessed: Sequence[str]


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
    of the archive: of a tar, which says its last name at its end, in the phase "listing", and then
    in the phase "unpacking". Whatever it raises stops the work, and then, as for any refusal,
    nothing is left of `into`. Raises `Problem` archive_invalid, archive_unsafe, archive_too_large,
    dataset_invalid, disk_full.
    """
    into.mkdir(parents=True)
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
    with closing(_open(archive, progress)) as opened:
        advance = paced(progress, PHASE, opened.total)
        arranged = _arrange(opened, known, tick=lambda: advance(0))
        room.need(sum(map(opened.size, arranged.places)))
        _write(opened, arranged.places, into, advance, room)
    return Unpacked(len(arranged.places), arranged.left_out, arranged.encoding, arranged.guessed)


def check_kind(archive: Path) -> None:
    """Raises `Problem` archive_invalid for what is neither a zip nor a tar, as far as a look at its
    ends can tell.
    """
    _kind(archive)


def _open(archive: Path, progress: Progress) -> Zip | Tar:
    kind = _kind(archive)
    if kind == "zip":
        return Zip(archive)
    return Tar(archive, kind, paced(progress, LISTING, archive.stat().st_size))


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


def _arrange(opened: Zip | Tar, known: Collection[str], *, tick: Callable[[], None]) -> _Arranged:
    read = entries.read(list(opened.names.values()), tick)
    paths = dict(zip(opened.names, read.paths, strict=True))
    too_large = {number for number in paths if opened.size(number) > limits.MOST_IMAGE_BYTES}
    found = layout.arrange(paths, known=known, too_large=too_large)
    guessed: dict[str, str] = {}
    for number, place in found.places.items():
        if not (opened.names[number].known or opened.names[number].raw.isascii()):
            guessed.setdefault(place.rpartition("/")[0], place)
    return _Arranged(found.places, found.left_out, read.encoding, list(guessed.values()))


def _write(
    opened: Zip | Tar,
    places: Mapping[int, str],
    into: Path,
    advance: entries.Advance,
    room: Room,
) -> None:
    """Each image where it belongs."""
    for folder in dict.fromkeys(path.rpartition("/")[0] for path in places.values()):
        (into / folder).mkdir(parents=True, exist_ok=True)
        advance(0)
    total = 0
    for number, stream in opened.files(places, advance):
        with (into / places[number]).open("xb") as file:
            while chunk := stream.read(_CHUNK):
                file.write(chunk)
                total += len(chunk)
                room.written(len(chunk))
                limits.check_ratio(total, opened.total)
                advance(0)
