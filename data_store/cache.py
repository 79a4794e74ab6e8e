"""Decoded data sets on disk: one folder each, written beside its place and renamed into it.

Knows nothing of decoding. Any of its folders may be deleted while nothing runs.
"""

import errno
import json
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from data_store import durable
from data_store.parts import DataSet, Part, Skipped
from problems import Problem

# Part of every key: raise it when the same files come to give other pixels, or another version.
_FORMAT = 2
_DRAFT = ".draft-"
_RECORD = "set.json"
_ARRAYS = ("images", "labels", "borders", "spreads")


def key(root: Path, files: Iterable[tuple[str, int, int]]) -> str:
    """Names the files as they lie, each as (path, size, mtime in ns): other files, other key."""
    digest = blake2b(
        f"{_FORMAT}\0{root.resolve()}".encode(errors="surrogateescape"), digest_size=16
    )
    for path, size, mtime_ns in files:
        digest.update(f"\0{path}\0{size}\0{mtime_ns}".encode(errors="surrogateescape"))
    return digest.hexdigest()


def place(cache: Path, key: str, *, size: tuple[int, int], channels: int) -> Path:
    """The folder of these files, decoded to `size` (height, width) and `channels`."""
    return cache / f"{key}-{size[0]}x{size[1]}x{channels}"


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


def read(folder: Path, name: str) -> DataSet | None:
    """The data set kept in `folder` under its present `name`, or None when there is none."""
    if not folder.exists():
        return None
    try:
        record = _record(folder)
        parts = {part: Part(**_arrays(folder, part)) for part in record["parts"]}
    except (OSError, ValueError):  # something deleted or cut off a file of ours
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return DataSet(
        name=name,
        version=record["version"],
        classes=tuple(record["classes"]),
        parts=parts,
        skipped=tuple(Skipped(**each) for each in record["skipped"]),
    )


def _record(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / _RECORD).read_text())
    return record


def _arrays(folder: Path, part: str) -> dict[str, Any]:
    # Copy on write: tensors made of read-only arrays warn, and nobody writes.
    return {name: np.load(folder / f"{part}.{name}.npy", mmap_mode="c") for name in _ARRAYS}


class Draft:
    """A folder being written: `add` batches, then `finish`. Left otherwise, it is removed.

    Two drafts of one place do not meet; the first to finish wins and the other is dropped. Raises
    `disk_full` before anything is written when `needed_bytes` do not fit, and whenever the disk
    fills up on the way.
    """

    def __init__(self, folder: Path, *, needed_bytes: int) -> None:
        self._folder = folder
        self._needed = needed_bytes
        self._parts: dict[str, _GrowingPart] = {}

    def __enter__(self) -> Self:
        cache = self._folder.parent
        cache.mkdir(parents=True, exist_ok=True)
        durable.sweep(cache, f"{_DRAFT}*")
        free = shutil.disk_usage(cache).free
        if free < self._needed:
            raise _full(f"The decoded images take {self._needed:,} bytes; {free:,} are free.")
        self._draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=cache))
        return self

    def add(self, part: str, images: Part) -> None:
        """Appends images to a part."""
        if part not in self._parts:
            self._parts[part] = _GrowingPart(self._draft, part, images.images.shape[1:])
        self._parts[part].add(images)

    def finish(self, *, version: str, classes: tuple[str, ...], skipped: list[Skipped]) -> None:
        """Makes the folder appear in its place, whole and safely on disk."""
        for part in self._parts.values():
            part.close()
        record = {
            "version": version,
            "classes": classes,
            "parts": list(self._parts),
            "skipped": [asdict(each) for each in skipped],
        }
        with (self._draft / _RECORD).open("w") as file:
            json.dump(record, file)
            durable.to_disk(file)
        durable.folder_to_disk(self._draft)
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
        for part in self._parts.values():
            part.drop()
        shutil.rmtree(self._draft, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full("The disk filled up while images were decoded.") from error


class _GrowingPart:
    """The files of one part. Images are appended as they come, so that none is held twice and a
    full disk is an error, where a mapped file would kill the process.
    """

    def __init__(self, folder: Path, part: str, shape: tuple[int, ...]) -> None:
        self._paths = {name: folder / f"{part}.{name}.npy" for name in _ARRAYS}
        self._shape = shape
        self._count = 0
        self._columns: dict[str, list[NDArray[Any]]] = {name: [] for name in _ARRAYS[1:]}
        self._file = self._paths["images"].open("wb")
        self._write_header()

    def add(self, batch: Part) -> None:
        self._file.write(np.ascontiguousarray(batch.images).data)
        self._count += len(batch.images)
        for name, column in self._columns.items():
            column.append(getattr(batch, name).copy())

    def close(self) -> None:
        self._file.seek(0)
        self._write_header()  # numpy pads it, so that any count takes as much room
        durable.to_disk(self._file)
        self._file.close()
        for name, column in self._columns.items():
            with self._paths[name].open("wb") as file:
                np.save(file, np.concatenate(column))
                durable.to_disk(file)

    def drop(self) -> None:
        self._file.close()

    def _write_header(self) -> None:
        described = {"descr": "|u1", "fortran_order": False, "shape": (self._count, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, described)


def _full(detail: str) -> Problem:
    return Problem("disk_full", detail)
