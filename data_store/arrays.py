"""Data sets as arrays of decoded images, kept on disk and mapped into memory.

Knows nothing of tensors and augmentation: it gives uint8 images and their labels.
"""

import errno
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_store import cache as decoded
from data_store import catalog, crew, downloads, folder, readers, reading
from data_store.built_in import SETS
from data_store.parts import DataSet, Pixels, Stream
from data_store.progress import Progress, paced
from data_store.sources import BuiltInSource, FolderSource, Wanted
from problems import Problem

Mode = Literal["auto", "resident", "stream"]

_FULL = 'Free some space, or give data_loader {"mode": "stream"}, which keeps no decoded images.'
_CACHE = "cache/ in danlu's home has to be a folder that the user of the worker may write to."
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}
_ROW_SECONDS = 5e-5  # that reading an image of a built-in set takes, and resizing it

__all__ = [
    *("DataSet", "Mode", "Part", "Progress", "Skipped"),
    *("each_bytes", "image_bytes", "is_local", "labels", "load", "some_bytes"),
]


def load(  # noqa: PLR0913 - where it lies, and how it is wanted
    name: str,
    *,
    root: Path,
    cache: Path,
    size: tuple[int, int],
    channels: int,
    progress: Progress,
    processes: int | None = None,
    mirrors: Sequence[str] = (),
    mode: Mode = "resident",
    budget_bytes: int = 0,
) -> DataSet:
    """The data set with every image at `size` (height, width) and `channels` (1 or 3).

    Downloads and decodes what is not there yet, then maps it from `cache`; two jobs may do so at
    once. What is there is compared with its checksums and, when it is damaged, decoded anew:
    `mended` says so. So many `processes` decode the files of a folder: 0: none but the caller's,
    None: as many as pays. Files are looked for at `mirrors` first. Whatever `progress` raises stops
    the work, and leaves nothing behind but what has been downloaded.

    `mode` "stream": nothing is mapped; images come in the set's `stream`, and all of them are read
    through once, by the first job, to know which can be read. "auto": so too if they take more than
    `budget_bytes`, or more than the disk has room for. Raises `dataset_unknown`,
    `dataset_unavailable` (no internet), `dataset_invalid`, `disk_full`, and `training_failed` where
    the cache cannot be written.
    """
    name = catalog.canonical(name, root)
    if name in SETS:
        downloads.fetch(SETS[name], root, progress, mirrors=mirrors)
    decoding = _Decoding(name, root, cache, progress, processes)
    wanted = Wanted(size, channels)
    why = _why_not_held(mode, sum(decoding.source.counts.values()) * wanted.bytes, budget_bytes)
    if why is None:
        try:
            return decoding.held(wanted)
        except Problem as problem:
            if problem.code != "disk_full":
                raise
            if mode == "resident":
                raise Problem("disk_full", problem.detail, hint=_FULL) from problem
            why = problem.detail
            decoding.source = decoding.opened()  # anew, since it may have read some of it
    return decoding.streamed(wanted, why)


def _why_not_held(mode: Mode, needed: int, budget: int) -> str | None:
    """None: they are held; empty: somebody wants it so."""
    if mode == "stream":
        return ""
    if mode == "auto" and needed > budget:
        return (
            f"The decoded images take {needed:,} bytes, and {budget:,} of memory may be used for "
            "them."
        )
    return None


def is_local(name: str, root: Path) -> bool:
    """Whether `load` needs no download. Raises `dataset_unknown`."""
    name = catalog.canonical(name, root)
    return name not in SETS or downloads.is_local(SETS[name], root)


def labels(name: str, root: Path, part: str) -> list[int]:
    """The class of each image of a part, in the order of `image_bytes`.

    Raises what `image_bytes` raises.
    """
    name = catalog.canonical(name, root)
    if name not in SETS:
        return [image.label for image in folder.scan(root / name).parts[part]]
    if part not in SETS[name].counts:
        raise KeyError(part)
    numbers: list[int] = readers.read(name, root, part).labels.tolist()
    return numbers


def image_bytes(name: str, root: Path, part: str, index: int) -> bytes:
    """One image as a file: the file itself of a folder, a PNG of a built-in set.

    Images are counted as they lie, those that cannot be read too. Reads a built-in part as a whole
    (MNIST: 50 ms). Raises `IndexError`, `KeyError` for a part that is not there, `dataset_unknown`.
    """
    return _files(name, root, part)(index)


def some_bytes(name: str, root: Path, part: str, indices: Sequence[int]) -> list[bytes | None]:
    """Several images as `image_bytes` gives each, None for one that is not there any more; the part
    is read once. Raises `KeyError`, `dataset_unknown`.
    """
    return list(each_bytes(name, root, part, indices))


def each_bytes(name: str, root: Path, part: str, indices: Iterable[int]) -> Iterator[bytes | None]:
    """As `some_bytes`, each read when it is asked for: all of them may not fit into memory."""
    file = _files(name, root, part)

    def read(index: int) -> bytes | None:
        try:
            return file(index)
        except (IndexError, OSError):
            return None

    return map(read, indices)


def _files(name: str, root: Path, part: str) -> Callable[[int], bytes]:
    """Who gives each image of a part as a file."""
    name = catalog.canonical(name, root)
    if name not in SETS:
        path = root / name
        files = folder.scan(path).parts[part]
        return lambda index: (path / files[index].path).read_bytes()
    if part not in SETS[name].counts:
        raise KeyError(part)
    pixels = readers.read(name, root, part).images
    return lambda index: _as_png(pixels[index])


def _as_png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "PNG")
    return file.getvalue()


class _Decoding:
    """One data set that is there, on its way into the `cache`."""

    def __init__(
        self, name: str, root: Path, cache: Path, progress: Progress, processes: int | None
    ) -> None:
        self._name, self._root, self._cache, self._progress = name, root, cache, progress
        self._processes = processes
        self.source = self.opened()

    def opened(self) -> BuiltInSource | FolderSource:
        """Its images, of which nothing has been read yet."""
        if self._name in SETS:
            return BuiltInSource(self._name, self._root)
        return FolderSource(self._root / self._name, processes=self._processes)

    def held(self, wanted: Wanted) -> DataSet:
        """All images, mapped."""
        return self._found(wanted)

    def streamed(self, wanted: Wanted, why: str) -> DataSet:
        """Without the images, which are read when they are wanted."""
        found = self._found(replace(wanted, held=False))
        how: dict[str, Any] = {"size": wanted.size, "channels": wanted.channels}
        items: dict[str, Sequence[Any]]
        read: Callable[[Sequence[Any]], Pixels]
        if isinstance(self.source, FolderSource):
            items = {
                part: self.source.paths(part, without=found.left_out(part)) for part in found.parts
            }
            read = partial(reading.pixels, **how)
            processes = self.source.processes("train")
        else:
            items = self._rows()
            read = partial(reading.rows, **how)
            processes = crew.worth(len(items["train"]) * _ROW_SECONDS)
            processes = processes if self._processes is None else self._processes
        root = self._root / self._name
        stream = Stream(root, items, read, wanted.shape, processes=processes, why=why)
        return replace(found, stream=stream)

    def _rows(self) -> dict[str, Sequence[Any]]:
        """Of a built-in set, which lies in a few files of its own: where each image is once they
        are decoded, at their own size.
        """
        self.source = self.opened()  # anew, since it has hashed what it has read
        own = Wanted(self.source.typical(), SETS[self._name].channels)
        found = self._found(own)
        return {
            part: [(str(self._place(own) / decoded.images_file(part)), row) for row in range(count)]
            for part, count in ((part, len(one.labels)) for part, one in found.parts.items())
        }

    def _place(self, wanted: Wanted) -> Path:
        return decoded.place(
            self._cache,
            self.source.key,
            size=wanted.size,
            channels=wanted.channels,
            held=wanted.held,
        )

    def _found(self, wanted: Wanted) -> DataSet:
        try:
            return self._kept(wanted)
        except OSError as error:
            if error.errno in _FORBIDDEN and str(error.filename).startswith(str(self._cache)):
                detail = f"Decoded images cannot be kept: {error.strerror}."
                raise Problem("training_failed", detail, hint=_CACHE) from error
            raise

    def _kept(self, wanted: Wanted) -> DataSet:
        place = self._place(wanted)
        # The first epoch reads all of it anyway; what a set of some MB takes is not worth telling.
        heard = paced(self._progress, "checking", decoded.weigh(place), at_once=False)
        mended = decoded.mend(place, heard=heard)
        if place.exists():
            return decoded.read(place, self._name, mended=mended)
        return replace(self._decode(place, wanted), mended=mended)

    def _decode(self, place: Path, wanted: Wanted) -> DataSet:
        source = self.source
        total = sum(source.counts.values())
        skipped = 0
        advance = paced(self._progress, "decoding", total)
        needed = total * wanted.bytes if wanted.held else 0
        with decoded.Draft(place, needed_bytes=needed, held=wanted.held) as draft:
            for part in source.counts:
                for images in source.batches(part, wanted, lambda: advance(0)):
                    draft.add(part, images)
                    advance(len(images.labels) + len(source.skipped) - skipped)
                    skipped = len(source.skipped)
            folder = draft.finish(
                name=self._name,
                version=source.version(),
                classes=source.classes,
                skipped=list(source.skipped),
                size=source.typical(),
                lasting=source.lasting,
            )
            return decoded.read(folder, self._name)
