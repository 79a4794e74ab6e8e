"""Data sets as arrays of decoded images, kept on disk and mapped into memory.

Knows nothing of tensors and augmentation: it gives uint8 images and their labels.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_store import cache as decoded
from data_store import catalog, downloads, folder, readers
from data_store.built_in import SETS
from data_store.parts import DataSet
from data_store.progress import Progress, paced
from data_store.sources import BuiltInSource, FolderSource, Source

__all__ = [
    *("DataSet", "Part", "Progress", "Skipped"),
    *("image_bytes", "is_local", "labels", "load", "places", "some_bytes"),
]


def load(  # noqa: PLR0913 - where it lies, and how it is wanted
    name: str,
    *,
    root: Path,
    cache: Path,
    size: tuple[int, int],
    channels: int,
    progress: Progress,
    threads: int | None = None,
    mirrors: Sequence[str] = (),
) -> DataSet:
    """The data set with every image at `size` (height, width) and `channels` (1 or 3).

    Downloads and decodes what is not there yet, then maps it from `cache`; two processes may do so
    at once. What is there is compared with its checksums and, when it is damaged, decoded anew:
    `mended` says so. So many `threads` decode the files of a folder: 0: none but the caller's,
    None: as many as pays. Files are looked for at `mirrors` first. Whatever `progress` raises stops
    the work, and leaves nothing behind but what has been downloaded. Raises `dataset_unknown`,
    `dataset_unavailable` (no internet), `dataset_invalid`, `disk_full`.
    """
    name = catalog.canonical(name, root)
    if name in SETS:
        downloads.fetch(SETS[name], root, progress, mirrors=mirrors)
    source = (
        BuiltInSource(name, root) if name in SETS else FolderSource(root / name, threads=threads)
    )
    place = decoded.place(cache, source.key, size=size, channels=channels)
    # The first epoch reads all of it anyway; what a set of some MB takes is not worth telling.
    heard = paced(progress, "checking", decoded.weigh(place), at_once=False)
    mended = decoded.mend(place, heard=heard)
    if not place.exists():
        _decode(source, place, name=name, size=size, channels=channels, progress=progress)
    return decoded.read(place, name, mended=mended)


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


def places(data: DataSet, root: Path, part: str) -> Sequence[int]:
    """Where each decoded image of a part lies, as `image_bytes` counts: unreadable ones count too.

    Raises what `image_bytes` raises.
    """
    if not data.skipped:
        return range(len(data.parts[part].labels))
    left_out = {each.file for each in data.skipped}
    files = folder.scan(root / data.name).parts[part]
    return [i for i, file in enumerate(files) if folder.shown(file.path) not in left_out]


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
    file = _files(name, root, part)
    found: list[bytes | None] = []
    for index in indices:
        try:
            found.append(file(index))
        except (IndexError, OSError):
            found.append(None)
    return found


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


def _decode(
    source: Source,
    place: Path,
    *,
    name: str,
    size: tuple[int, int],
    channels: int,
    progress: Progress,
) -> None:
    total = sum(source.counts.values())
    skipped = 0
    advance = paced(progress, "decoding", total)
    needed = total * size[0] * size[1] * channels
    with decoded.Draft(place, needed_bytes=needed) as draft:
        for part in source.counts:
            for images in source.batches(part, size=size, channels=channels):
                draft.add(part, images)
                advance(len(images.labels) + len(source.skipped) - skipped)
                skipped = len(source.skipped)
        draft.finish(
            name=name,
            version=source.version(),
            classes=source.classes,
            skipped=list(source.skipped),
        )
