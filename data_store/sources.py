"""Where the images of a data set come from: files of a folder, or a built-in set's own files.

Gives them batch by batch at the wanted size and hashes them on the way; keeping them is `cache`'s.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

import images
from data_store import cache, folder, readers
from data_store.built_in import SETS
from data_store.parts import Part, Skipped
from data_store.versions import Content
from problems import Problem

_BATCH = 64  # of files: few enough that slow ones are told of and stopped within a second or two
_BLOCK = 4096  # of a built-in set, whose images are small and mostly only copied
# Bytes a file from where on threads pay. On 2 cores a 1600x1200 JPEG takes 2.3 ms instead of 4.4,
# but a 32x32 one 250 us instead of 135: Pillow opens files in Python, holding its lock.
_LARGE = 50_000


class Source(Protocol):
    """The images of one data set. `key` names its files as they lie, `counts` how many there are.

    `skipped` fills while batches are read; `version`, once all are, hashes the content.
    """

    classes: tuple[str, ...]
    counts: Mapping[str, int]
    key: str
    skipped: list[Skipped]

    def batches(self, part: str, *, size: tuple[int, int], channels: int) -> Iterator[Part]:
        """The images of a part, in order, at `size` (height, width) and `channels`."""

    def version(self) -> str:
        """The hash of all that was read."""


class BuiltInSource:
    """A built-in set whose files are there. Raises `dataset_invalid` when they are damaged."""

    def __init__(self, name: str, root: Path) -> None:
        self._name = name
        self._root = root
        self._digest = sha256()
        self.classes = SETS[name].classes
        self.counts = SETS[name].counts
        self.key = built_in_key(name, root)
        self.skipped: list[Skipped] = []

    def batches(self, part: str, *, size: tuple[int, int], channels: int) -> Iterator[Part]:
        """Raises `dataset_invalid`."""
        raw = readers.read(self._name, self._root, part)
        self._digest.update(f"{part}\0{raw.images.shape}\0".encode())
        for start in range(0, len(raw.labels), _BLOCK):
            block = np.ascontiguousarray(raw.images[start : start + _BLOCK])
            labels = raw.labels[start : start + _BLOCK]
            self._digest.update(block.data)
            self._digest.update(labels.astype("<i8").tobytes())
            yield Part(_resized(block, size, channels), labels, *_borders(block))

    def version(self) -> str:
        """The hash of pixels and labels."""
        return self._digest.hexdigest()[:16]


class FolderSource:
    """A folder per class. Files that cannot be read are skipped.

    `threads` decode it, 0: none but the caller's; None: as many as there are cores where that pays.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        scan = folder.scan(path)
        self._threads = threads
        self._path = path
        self._parts = scan.parts
        self._content = Content(scan.classes)
        self.classes = scan.classes
        self.counts: Mapping[str, int] = {part: len(files) for part, files in scan.parts.items()}
        self.key = folder_key(path, scan)
        self.skipped: list[Skipped] = []

    def batches(self, part: str, *, size: tuple[int, int], channels: int) -> Iterator[Part]:
        """Raises `dataset_invalid` when of a part, or of a class in the training part, no image
        can be read.
        """
        files = self._parts[part]
        found: set[int] = set()
        with _mapping(files, self._threads) as mapping:
            for start in range(0, len(files), _BATCH):
                batch = files[start : start + _BATCH]
                read = mapping(lambda file: self._decoded(file, size, channels), batch)
                good = list(self._readable(batch, read))
                found |= {file.label for file, _ in good}
                yield _together(good, size, channels)
        if not found:
            raise _unreadable(f"None of the {part} images can be read.")
        empty = set(range(len(self.classes))) - found
        if empty and part == "train":
            name = self.classes[min(empty)]
            raise _unreadable(f"No image of the class {name!r} can be read.")

    def version(self) -> str:
        """The hash of classes, paths and bytes of all files, the skipped ones too."""
        return self._content.version()

    def _decoded(
        self, file: folder.Image, size: tuple[int, int], channels: int
    ) -> tuple[bytes, images.Decoded | Problem]:
        data = b""
        try:
            data = (self._path / file.path).read_bytes()
            return data, images.decode(data, size=size, channels=channels)
        except Problem as problem:
            return data, problem
        except OSError as error:
            return data, Problem("not_an_image", f"It cannot be read: {error.strerror}.")

    def _readable(
        self,
        files: Iterable[folder.Image],
        read: Iterable[tuple[bytes, images.Decoded | Problem]],
    ) -> Iterator[tuple[folder.Image, images.Decoded]]:
        for file, (data, decoded) in zip(files, read, strict=True):
            path = folder.shown(file.path)
            self._content.add(path, sha256(data).digest())
            if isinstance(decoded, Problem):
                self.skipped.append(Skipped(path, decoded.code, decoded.detail))
            else:
                yield file, decoded


def built_in_key(name: str, root: Path) -> str:
    """The cache key of a built-in set whose files are there."""
    stats = [(file, file.stat()) for file in readers.files(name, root)]
    return cache.key(root, [(f"{name}/{f.name}", s.st_size, s.st_mtime_ns) for f, s in stats])


def folder_key(path: Path, scan: folder.Scan) -> str:
    """The cache key of a folder per class."""
    files = (
        (f"{part}/{file.label}/{file.path}", file.size, file.mtime_ns)
        for part, files in scan.parts.items()
        for file in files
    )
    return cache.key(path, files)


_Map = Callable[..., Iterable[tuple[bytes, images.Decoded | Problem]]]


@contextmanager
def _mapping(files: Sequence[folder.Image], threads: int | None) -> Iterator[_Map]:
    """`map`, on threads: so many, or if nobody said where that is faster."""
    if threads is None:
        large = sum(file.size for file in files) >= _LARGE * len(files)
        threads = (os.cpu_count() or 1) if large else 0
    if threads == 0:
        yield map
        return
    with ThreadPoolExecutor(threads) as pool:
        yield pool.map


def _together(
    good: Sequence[tuple[folder.Image, images.Decoded]], size: tuple[int, int], channels: int
) -> Part:
    pixels = np.empty((len(good), *size, channels), np.uint8)
    for row, (_, decoded) in zip(pixels, good, strict=True):
        row[:] = decoded.pixels
    return Part(
        images=pixels,
        labels=np.array([file.label for file, _ in good], np.int64),
        borders=np.array([decoded.border for _, decoded in good], np.float32),
        spreads=np.array([decoded.border_spread for _, decoded in good], np.float32),
    )


def _resized(block: NDArray[np.uint8], size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """(N, H, W, C) at another size; as it is when it has that already, since a resize copies."""
    if block.shape[1:] == (*size, channels):
        return block
    return np.stack([images.resize(image, size, channels) for image in block])


def _borders(block: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`images.border` of each image (N, H, W, C), all at once: 100 times faster."""
    rings = np.concatenate(
        [block[:, 0], block[:, -1], block[:, 1:-1, 0], block[:, 1:-1, -1]], axis=1
    )
    # Laid out as one picture of a line per image, so that grey is `images`' grey.
    grey = images.resize(rings, rings.shape[:2], 1)[:, :, 0] / 255
    return grey.mean(axis=1).astype(np.float32), grey.std(axis=1).astype(np.float32)


def _unreadable(detail: str) -> Problem:
    return Problem("dataset_invalid", detail, hint="Replace these files by whole images.")
