"""Data sets as arrays of decoded images, kept on disk and mapped into memory.

Knows nothing of tensors and augmentation: it gives uint8 images and their labels.
"""

import io
from pathlib import Path

from PIL import Image

from data_store import cache as decoded
from data_store import catalog, downloads, folder, readers
from data_store.built_in import SETS
from data_store.parts import DataSet, Part, Skipped
from data_store.progress import Progress, paced
from data_store.sources import BuiltInSource, FolderSource, Source

__all__ = ["DataSet", "Part", "Progress", "Skipped", "image_bytes", "is_local", "labels", "load"]


def load(  # noqa: PLR0913 - where it lies, and how it is wanted
    name: str,
    *,
    root: Path,
    cache: Path,
    size: tuple[int, int],
    channels: int,
    progress: Progress,
    threads: int | None = None,
) -> DataSet:
    """The data set with every image at `size` (height, width) and `channels` (1 or 3).

    Downloads and decodes what is not there yet, then maps it from `cache`; two processes may do so
    at once. So many `threads` decode the files of a folder: 0: none but the caller's, None: as many
    as pays. Whatever `progress` raises stops the work and leaves nothing behind. Raises
    `dataset_unknown`, `dataset_unavailable` (no internet), `dataset_invalid`, `disk_full`.
    """
    name = catalog.canonical(name, root)
    if name in SETS:
        downloads.fetch(SETS[name], root, progress)
    source = (
        BuiltInSource(name, root) if name in SETS else FolderSource(root / name, threads=threads)
    )
    place = decoded.place(cache, source.key, size=size, channels=channels)
    found = decoded.read(place, name)
    if found is None:
        _decode(source, place, size=size, channels=channels, progress=progress)
        found = decoded.read(place, name)
    if found is None:
        raise FileNotFoundError(place)
    return found


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
    name = catalog.canonical(name, root)
    if name not in SETS:
        path = root / name
        return (path / folder.scan(path).parts[part][index].path).read_bytes()
    if part not in SETS[name].counts:
        raise KeyError(part)
    pixels = readers.read(name, root, part).images[index]
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "PNG")
    return file.getvalue()


def _decode(
    source: Source, place: Path, *, size: tuple[int, int], channels: int, progress: Progress
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
        draft.finish(version=source.version(), classes=source.classes, skipped=list(source.skipped))
