"""Decoded data sets on disk: one folder each, written beside its place and renamed into it.

A folder's record has the seal of each file, so that one that was cut short or altered is found.
Knows nothing of decoding. Any of its folders may be deleted while nothing runs.
"""

import errno
import json
import shutil
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import numpy as np

from data_store import durable, sealed
from data_store.parts import DataSet, Part, Skipped, Sums
from data_store.sealed import Growing, Seal
from problems import Problem

# Part of every key: raise it when the same files come to give other pixels, or another version.
_FORMAT = 2
_DRAFT = ".draft-"
_RECORD = "set.json"
_OLDER = "it was decoded by an older danlu"  # whose records lack checksums, sums or places
_STREAM = ".stream"
_ARRAYS = ("images", "labels", "borders", "spreads")


def key(root: Path, words: Iterable[bytes]) -> str:
    """Names the files of a set below `root` as they lie, each with path, size and time of its last
    change in `words`, told so that other files are other bytes: other files, other key.
    """
    digest = blake2b(
        f"{_FORMAT}\0{root.resolve()}\0".encode(errors="surrogateescape"), digest_size=16
    )
    for word in words:
        digest.update(word)
    return digest.hexdigest()


def place(
    cache: Path, key: str, *, size: tuple[int, int], channels: int, held: bool = True
) -> Path:
    """The folder of these files, decoded to `size` (height, width) and `channels`; not `held`: of
    what was found out about them, without their pixels.
    """
    return cache / f"{key}-{size[0]}x{size[1]}x{channels}{'' if held else _STREAM}"


def version(cache: Path, key: str) -> str | None:
    """The content hash of these files, if they have been decoded at any size."""
    for folder in sorted(cache.glob(f"{key}-*")):
        with suppress(OSError, ValueError):
            return str(_record(folder)["version"])
    return None


def forget(cache: Path, key: str) -> None:
    """Removes what was decoded of these files, at every size."""
    for folder in cache.glob(f"{key}-*"):
        shutil.rmtree(folder, ignore_errors=True)


def sets(cache: Path) -> list[Path]:
    """The folders of all decoded sets, in order."""
    return sorted(path for path in cache.glob("[!.]*") if path.is_dir())


def outdated(cache: Path, keys: Collection[str]) -> list[Path]:
    """Those that are of none of the files that `keys` name."""
    return [folder for folder in sets(cache) if folder.name.partition("-")[0] not in keys]


def drafts(cache: Path) -> list[Path]:
    """Folders that somebody writes right now, or that a killed process left."""
    return sorted(cache.glob(f"{_DRAFT}*"))


def title(folder: Path) -> str:
    """Which set it is, at what height, width and channels; the folder's name if that is all that
    is left of it.
    """
    try:
        return f"{_record(folder)['name']} at {folder.name.rpartition('-')[2]}"
    except (OSError, ValueError):
        return folder.name


def weigh(folder: Path) -> int:
    """The bytes of a decoded set; 0 where there is none."""
    found = 0
    for file in folder.glob("*"):
        with suppress(FileNotFoundError):  # another process removes it
            found += file.stat().st_size
    return found


def fault(
    folder: Path, *, checksums: bool = True, heard: Callable[[int], object] = lambda _: None
) -> str | None:
    """What is wrong with a decoded set, None if nothing is. `heard` is told how many bytes were
    read, again and again; what it raises ends the work.

    Without `checksums` only what is missing or has another size is found.
    """
    try:
        record = _record(folder)
    except OSError as error:
        return f"{_RECORD} cannot be read: {error.strerror}"
    except ValueError as error:
        return str(error)
    for name, seal in record["files"].items():
        found = sealed.fault(folder / name, Seal(**seal), checksums=checksums, heard=heard)
        if found:
            return found
    return None


def mend(folder: Path, *, heard: Callable[[int], object]) -> str | None:
    """Removes the set in `folder` if it is damaged, and says what was wrong with it; one of an
    older danlu without a word.

    Reads all of it; `heard` is told as in `fault`. Raises OSError where it may not be removed.
    """
    looked_at = _inode(folder)
    if looked_at is None:
        return None
    found = fault(folder, heard=heard)
    # Another process may have been faster, and have a good one there now.
    if found and _inode(folder) == looked_at:
        # Renamed first, so that nobody can ever read what could not be removed.
        hidden = folder.with_name(f"{_DRAFT}{uuid4().hex}")
        with suppress(FileNotFoundError):
            folder.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)
    return found if found != _OLDER else None


def _inode(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino
    except FileNotFoundError:
        return None


def read(folder: Path, name: str, *, mended: str | None = None) -> DataSet:
    """The data set kept in `folder` under its present `name`. Whether it is whole, `mend` says."""
    record = _record(folder)
    return DataSet(
        name=name,
        version=record["version"],
        classes=tuple(record["classes"]),
        parts={
            part: Part(**_arrays(folder, part, record), sums=_sums(record["sums"][part]))
            for part in record["parts"]
        },
        skipped=tuple(Skipped(**each) for each in record["skipped"]),
        height=record["size"][0],
        width=record["size"][1],
        mended=mended,
    )


def _record(folder: Path) -> dict[str, Any]:
    """Raises OSError, and ValueError with what is wrong."""
    damaged = f"{_RECORD} is not what was written"
    try:
        record = json.loads((folder / _RECORD).read_bytes())
    except ValueError:
        raise ValueError(damaged) from None
    if not isinstance(record, dict):
        raise ValueError(damaged)
    seal = record.pop("crc32", None)
    if seal != _crc32(record):
        raise ValueError(damaged if seal is not None else _OLDER)
    if "sums" not in record or any("place" not in each for each in record["skipped"]):
        raise ValueError(_OLDER)
    return record


def _crc32(record: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(record).encode())


def _sums(record: dict[str, Any]) -> Sums:
    return Sums(record["count"], tuple(record["totals"]), tuple(record["squares"]))


def _arrays(folder: Path, part: str, record: dict[str, Any]) -> dict[str, Any]:
    # Copy on write: tensors made of read-only arrays warn, and nobody writes.
    return {
        name: np.load(folder / file, mmap_mode="c")
        if (file := _file(part, name)) in record["files"]
        else np.empty((0, *record["shape"]), np.uint8)
        for name in _ARRAYS
    }


def images_file(part: str) -> str:
    """The file, in a set's folder, that holds the pixels of a part."""
    return _file(part, "images")


def _file(part: str, array: str) -> str:
    return f"{part}.{array}.npy"


class Draft:
    """A folder being written: `add` batches, then `finish`. Left otherwise, it is removed.

    Two drafts of one place do not meet; the first to finish wins and the other is dropped. Raises
    `disk_full` before anything is written when `needed_bytes` do not fit, and whenever the disk
    fills up on the way.
    """

    def __init__(self, folder: Path, *, needed_bytes: int, held: bool = True) -> None:
        """Not `held`: without the images themselves."""
        self._folder = folder
        self._needed = needed_bytes
        self._names = _ARRAYS if held else _ARRAYS[1:]
        self._parts: dict[str, dict[str, Growing]] = {}
        self._sums: dict[str, Sums] = {}
        self._shape: tuple[int, ...] = ()

    def __enter__(self) -> Self:
        cache = self._folder.parent
        cache.mkdir(parents=True, exist_ok=True)
        durable.sweep(cache, f"{_DRAFT}*")
        free = shutil.disk_usage(cache).free
        if free < self._needed:
            raise Problem(
                "disk_full",
                f"The decoded images take {self._needed:,} bytes; {free:,} are free.",
            )
        self._draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=cache))
        return self

    def add(self, part: str, images: Part) -> None:
        """Appends images to a part."""
        sums = images.sums or Sums.of(images.images)
        if part not in self._parts:
            self._shape = images.images.shape[1:]
            self._parts[part] = {
                name: Growing(self._draft / _file(part, name), getattr(images, name))
                for name in self._names
            }
            self._sums[part] = sums
        else:
            self._sums[part] += sums
        for name, growing in self._parts[part].items():
            growing.add(getattr(images, name))

    def finish(
        self,
        *,
        name: str,
        version: str,
        classes: tuple[str, ...],
        skipped: list[Skipped],
        size: tuple[int, int] = (0, 0),
        lasting: bool = True,
    ) -> Path:
        """Makes the folder appear in its place, whole and safely on disk, and says where it is.
        `size` (height, width) is that of the images as they lie. One that is not `lasting` is in no
        place where others find it, and goes with the draft: what is mapped by then stays mapped.
        """
        record: dict[str, Any] = {
            "name": name,
            "version": version,
            "classes": classes,
            "parts": list(self._parts),
            "skipped": [asdict(each) for each in skipped],
            "size": size,
            "shape": self._shape,
            "sums": {part: asdict(sums) for part, sums in self._sums.items()},
            "files": {
                _file(part, array): asdict(growing.finish())
                for part, arrays in self._parts.items()
                for array, growing in arrays.items()
            },
        }
        record["crc32"] = _crc32(record)
        with (self._draft / _RECORD).open("w") as file:
            json.dump(record, file)
            durable.to_disk(file)
        durable.folder_to_disk(self._draft)
        if lasting:
            self._take_place()
        elif not self._folder.exists():
            return self._draft
        return self._folder

    def _take_place(self) -> None:
        try:
            self._draft.rename(self._folder)
        except OSError:
            if not (self._folder / _RECORD).exists():
                raise
        durable.folder_to_disk(self._folder.parent)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for growing in (each for part in self._parts.values() for each in part.values()):
            growing.drop()
        shutil.rmtree(self._draft, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Problem("disk_full", "The disk filled up while images were decoded.") from error
