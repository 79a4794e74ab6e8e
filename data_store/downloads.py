"""Brings the files of a built-in data set to where torchvision's classes look for them.

Knows nothing of what is in them. A file has its name only when it is whole and its md5 is right.
"""

import errno
import gzip
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from data_store import durable, transfers, unfinished
from data_store.built_in import BuiltIn, File
from data_store.patience import PATIENCE, Patience
from data_store.progress import Progress, paced
from data_store.replies import NotServed
from data_store.transfers import Wanted
from problems import Problem

# What lies below a mirror is named as it is in a home.
MIRRORED = "datasets/"
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}
_CHUNK = 1 << 18
NEXT_TIME = "name a server that has it in DANLU_MIRROR"


def missing(wanted: BuiltIn, root: Path) -> list[File]:
    """The files of a built-in set that are not there, unpacked."""
    return [f for f in wanted.files if not all((root / held).is_file() for held in f.holds)]


def is_local(wanted: BuiltIn, root: Path) -> bool:
    """Whether `fetch` needs no network: each file is there, unpacked or as it is served."""
    folder = root / wanted.folder
    return all(_size(folder / file.name) == file.bytes for file in missing(wanted, root))


def fetch(
    wanted: BuiltIn,
    root: Path,
    progress: Progress,
    *,
    mirrors: Sequence[str] = (),
    patience: Patience = PATIENCE,
) -> None:
    """Downloads and unpacks what is missing of a built-in set; does nothing when nothing is.

    A file that was put in its folder by hand is taken when its md5 is right. `mirrors` are asked
    before those that everybody knows. What has come is kept for the next time, whatever happens.
    Raises `disk_full`, or `dataset_unavailable`, whose hint lists each missing file and where it
    belongs.
    """
    absent = missing(wanted, root)
    folder = root / wanted.folder
    needed = [file for file in absent if not transfers.is_there(_wanted(file), folder / file.name)]
    try:
        if needed:
            below = MIRRORED if wanted.folder == "." else f"{MIRRORED}{wanted.folder}/"
            addresses = [*(mirror + below for mirror in mirrors), *wanted.mirrors]
            _download(needed, addresses, folder, progress=progress, patience=patience)
        for file in missing(wanted, root):
            _unpack(file, folder, root)
    except NotServed as error:
        raise _unavailable(str(error), needed, folder) from error
    except OSError as error:
        if error.errno in transfers.FULL:
            raise Problem("disk_full", f"The disk filled up while writing to {root}.") from error
        if error.errno in _FORBIDDEN:
            detail = f"{root} cannot be written: {error.strerror}."
            raise _unavailable(detail, needed, folder) from error
        raise


def _download(
    files: Sequence[File],
    addresses: list[str],
    folder: Path,
    *,
    progress: Progress,
    patience: Patience,
) -> None:
    here = {file: unfinished.size(folder / file.name) for file in files}
    total = sum(file.bytes for file in files)
    advance = paced(progress, "downloading", total, done=sum(here.values()))
    for file in files:
        at = growing(advance, here[file])
        urls = [address + file.name for address in addresses]
        served = transfers.bring(_wanted(file), folder / file.name, urls, at=at, patience=patience)
        at(file.bytes)
        if served in urls:  # where one file came from, the next one may
            addresses.insert(0, addresses.pop(urls.index(served)))


def growing(advance: Callable[[int], None], size: int) -> Callable[[int], None]:
    """Tells `advance` of a file that has `size` bytes what is more each time."""

    def at(now: int) -> None:
        nonlocal size
        more, size = now - size, now
        advance(more)

    return at


def _wanted(file: File) -> Wanted:
    return Wanted(file.name, file.bytes, algorithm="md5", checksum=file.md5)


def _unpack(file: File, folder: Path, root: Path) -> None:
    """Writes what `file` holds, and nothing else that is in it."""
    archive = folder / file.name
    if file.name.endswith(".tar.gz"):
        with tarfile.open(archive) as members:
            for member in members:
                inside = members.extractfile(member) if member.name in file.holds else None
                if inside is not None:
                    _write(root / member.name, inside)
    elif file.name.endswith(".gz"):
        with gzip.open(archive) as unzipped:
            _write(root / file.holds[0], unzipped)


def _write(target: Path, inside: IO[bytes] | gzip.GzipFile) -> None:
    with durable.replacing(target) as out:
        shutil.copyfileobj(inside, out, _CHUNK)


def _unavailable(detail: str, files: Sequence[File], folder: Path) -> Problem:
    lines = (
        f"{file.name} ({file.bytes:,} bytes, md5 {file.md5}{so_far(folder / file.name)})"
        for file in files
    )
    where = folder.resolve()
    hint = f"Put these into {where} and train again: {', '.join(lines)}. Or {NEXT_TIME}."
    return Problem("dataset_unavailable", detail, hint=hint)


def so_far(target: Path) -> str:
    """What there is in place of a file, in words that end a list."""
    if target.is_file():
        return "; the one that is there is another"
    here = unfinished.size(target)
    return f"; {here:,} bytes have come, and the next try goes on there" if here else ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
