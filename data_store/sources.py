"""Where the images of a data set come from: files of a folder, or a built-in set's own files.

Gives them batch by batch at the wanted size and hashes them on the way; keeping them is `cache`'s.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import images
from data_store import cache, crew, folder, headers, readers, reading
from data_store.built_in import SETS
from data_store.crew import Crew
from data_store.parts import Part, Skipped, Sums
from data_store.versions import Content
from problems import Problem

_BLOCK = 4096  # of a built-in set, whose images are small and mostly only copied
# One core takes, about, for a small JPEG file and for each byte more of it.
_FILE_SECONDS, _BYTE_SECONDS = 1.2e-4, 1e-8
# What a process sends at a time: some files, or fewer where their pixels are many.
_SENT_BYTES = 4_000_000


Tick = Callable[[], object]


class Source(Protocol):
    """The images of one data set. `key` names its files as they lie, `counts` how many there are.

    `skipped` fills while batches are read; `version`, once all are, hashes the content. Not
    `lasting`: the system refused files, which another reading may get.
    """

    classes: tuple[str, ...]
    counts: Mapping[str, int]
    key: str
    skipped: list[Skipped]
    lasting: bool

    def batches(self, part: str, wanted: "Wanted", tick: Tick) -> Iterator[Part]:
        """The images of a part, in order. `tick` is called several times a second; what it raises
        ends the work.
        """

    def version(self) -> str:
        """The hash of all that was read."""

    def typical(self) -> tuple[int, int]:
        """Height and width of its images as they lie: for files, the median of a sample."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How images are wanted: at `size` (height, width) and `channels`. Not `held`: nobody keeps
    their pixels, so they need not be given.
    """

    size: tuple[int, int]
    channels: int
    held: bool = True

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of an image."""
        return (*self.size, self.channels)

    @property
    def bytes(self) -> int:
        """Of the pixels of an image."""
        return self.size[0] * self.size[1] * self.channels


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
        self.lasting = True

    def batches(self, part: str, wanted: Wanted, tick: Tick) -> Iterator[Part]:
        """Raises `dataset_invalid`."""
        raw = readers.read(self._name, self._root, part)
        self._digest.update(f"{part}\0{raw.images.shape}\0".encode())
        for start in range(0, len(raw.labels), _BLOCK):
            block = np.ascontiguousarray(raw.images[start : start + _BLOCK])
            labels = raw.labels[start : start + _BLOCK]
            self._digest.update(block.data)
            self._digest.update(labels.astype("<i8").tobytes())
            tick()
            pixels = _resized(block, wanted.size, wanted.channels)
            sums = Sums.of(pixels)
            yield Part(pixels if wanted.held else pixels[:0], labels, *_borders(block), sums)

    def version(self) -> str:
        """The hash of pixels and labels."""
        return self._digest.hexdigest()[:16]

    def typical(self) -> tuple[int, int]:
        """Of all of them."""
        return SETS[self._name].size


class FolderSource:
    """A folder per class. Files that cannot be read are skipped; what is no fault of theirs gets
    another try first.

    So many `processes` decode it, 0: none but the caller's; None: as many as pays.
    """

    def __init__(self, path: Path, *, processes: int | None = None) -> None:
        scan = folder.scan(path)
        self._processes = processes
        self._path = path
        self._parts = scan.parts
        self._content = Content(scan.classes)
        self.classes = scan.classes
        self.counts: Mapping[str, int] = {part: len(files) for part, files in scan.parts.items()}
        self.key = folder_key(path, scan)
        self.skipped: list[Skipped] = []
        self.lasting = True

    def batches(self, part: str, wanted: Wanted, tick: Tick) -> Iterator[Part]:
        """A file that ends the process which decodes it is skipped, too. Raises `dataset_invalid`
        when of a part, or of a class in the training part, no image can be read.
        """
        paths, processes = self.paths(part), self.processes(part)
        found: set[int] = set()
        how: dict[str, Any] = {"size": wanted.size, "channels": wanted.channels}
        read = partial(reading.read, **how, keeps_pixels=wanted.held)
        at_once = max(1, min(crew.BATCH, _SENT_BYTES // wanted.bytes))
        lost = partial(reading.lost, **how)
        with (
            Crew(read, lost, processes=processes) as readers,
            Crew(read, partial(lost, again=True), processes=min(1, processes)) as another,
        ):
            for places, block in readers.run(paths, tick, batch=at_once):
                for place in sorted(block.refused):
                    [(_, one)] = another.run([paths[places[place]]], tick)
                    block = block.retried(place, one)
                self.lasting = self.lasting and not block.refused
                good = self._note(part, places, block)
                found.update(good)
                labels = np.array(good, np.int64)
                yield Part(block.pixels, labels, block.borders, block.spreads, block.sums)
        if not found:
            raise _unreadable(f"None of the {part} images can be read.")
        empty = set(range(len(self.classes))) - found
        if empty and part == "train":
            name = self.classes[min(empty)]
            raise _unreadable(f"No image of the class {name!r} can be read.")

    def version(self) -> str:
        """The hash of classes, paths and bytes of all files, the skipped ones too."""
        return self._content.version()

    def typical(self) -> tuple[int, int]:
        """0 of a sample of which nothing can be read."""
        train = self._parts["train"]
        shape = headers.typical(self._path / image.path for image in folder.sample(train))
        return (shape.height, shape.width) if shape else (0, 0)

    def paths(self, part: str, *, without: Collection[int] = ()) -> list[str]:
        """The files of a part, in order, but for those in these places."""
        paths = self._parts[part].paths(str(self._path))
        return [path for place, path in enumerate(paths) if place not in without]

    def processes(self, part: str) -> int:
        """That decode this part."""
        if self._processes is not None:
            return self._processes
        files = self._parts[part]
        seconds = len(files) * _FILE_SECONDS + files.disk_bytes * _BYTE_SECONDS
        return crew.worth(seconds)

    def _note(self, part: str, places: range, block: reading.Block) -> list[int]:
        """Takes down what was read in these places; the labels of what is good."""
        files = self._parts[part][places.start : places.stop]
        for place, (file, digest) in enumerate(zip(files, block.digests, strict=True)):
            path = folder.shown(file.path)
            self._content.add(path, digest)
            if place in block.bad:
                self.skipped.append(Skipped(path, *block.bad[place], part, places[place]))
        return [file.label for place, file in enumerate(files) if place not in block.bad]


def built_in_key(name: str, root: Path) -> str:
    """The cache key of a built-in set whose files are there."""
    stats = [(file, file.stat()) for file in readers.files(name, root)]
    told = (f"{name}/{file.name}\0{s.st_size}\0{s.st_mtime_ns}\0" for file, s in stats)
    return cache.key(root, map(str.encode, told))


def folder_key(path: Path, scan: folder.Scan) -> str:
    """The cache key of a folder per class."""
    words = (
        word for part, images in scan.parts.items() for word in (part.encode(), *images.words())
    )
    return cache.key(path, words)


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
