"""The records of a decoded data set: its parts, and the files that were left out of them.

Knows nothing of where they come from or how they are kept.
"""

import mmap
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

# Sums of squares of bytes are exact in float32 for so many, since it counts to 2^24.
_EXACT = (1 << 24) // 255**2
_LARGE = 64_000_000  # bytes of images; the pages of less cost more time than their memory is worth


@dataclass(frozen=True, slots=True)
class Sums:
    """Of the pixels of some images, 0 to 255: how many a channel has, and for each channel their
    sum and that of their squares. Exact, so that no order of the images makes a difference.
    """

    count: int
    totals: tuple[int, ...]
    squares: tuple[int, ...]

    @classmethod
    def of(cls, images: NDArray[np.uint8]) -> Self:
        """Of images (N, H, W, C)."""
        count, height, width, channels = images.shape
        sums = np.zeros((2, height * width * channels), np.float64)
        rows = images.reshape(count, height * width * channels)
        for start in range(0, count, _EXACT):
            some = rows[start : start + _EXACT].astype(np.float32)
            sums[0] += some.sum(axis=0)
            sums[1] += np.einsum("ij,ij->j", some, some)
        whole = sums.reshape(2, height * width, channels).sum(axis=1).astype(np.int64).tolist()
        return cls(count * height * width, tuple(whole[0]), tuple(whole[1]))

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.count + other.count,
            tuple(a + b for a, b in zip(self.totals, other.totals, strict=True)),
            tuple(a + b for a, b in zip(self.squares, other.squares, strict=True)),
        )


@dataclass(frozen=True, slots=True)
class Part:
    """Some images of a data set: `images` uint8 (N, H, W, C) and `labels` (N,).

    `borders` and `spreads` (N,) are mean and standard deviation, 0..1, of the brightness of each
    image's outermost ring of pixels, measured before it was resized. `sums` are of all pixels,
    where they are known. Of a set that is streamed no `images` are here: N is 0 there.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    borders: NDArray[np.float32]
    spreads: NDArray[np.float32]
    sums: Sums | None = None

    @property
    def is_mapped(self) -> bool:
        """Whether the images are pages of a file, as the system reads them."""
        return isinstance(self.images, np.memmap)

    def rest(self) -> None:
        """The images will not be wanted for a while: the system may have their pages, and maps them
        again, from its cache, when they are. Nobody has written into them.
        """
        pages = getattr(self.images, "_mmap", None)
        if pages is not None and self.images.nbytes > _LARGE and hasattr(mmap, "MADV_DONTNEED"):
            pages.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was left out: its path from the data set's folder on, a code, and why. It lay at
    this `place` among all files of its part.
    """

    file: str
    code: str
    message: str
    part: str
    place: int


class Pixels(NamedTuple):
    """Of some images, uint8 (n, H, W, C), but for those of `bad`, which says why by their place."""

    pixels: NDArray[np.uint8]
    bad: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Stream:
    """Where the images of a set that is not held come from, each time they are wanted.

    Each has one of the `items` of its part, and `read` is done to some of these; it can be sent to
    another process: so many `processes` pay, 0: none but the caller's. `shape` is (H, W, C). `why`
    says, in words, why the set is not held; empty if somebody wanted it so.
    """

    root: Path
    items: Mapping[str, Sequence[Any]]
    read: Callable[[Sequence[Any]], Pixels]
    shape: tuple[int, int, int]
    processes: int
    why: str

    def name(self, item: Any) -> str:
        """The file that an item stands for, from the folder of the data set on."""
        return os.path.relpath(item, self.root) if isinstance(item, str) else str(item)


@dataclass(frozen=True, slots=True)
class DataSet:
    """A decoded data set: `parts` has "train", maybe "val" and "test"; their images are mapped from
    disk, copy on write, or come in a `stream`. `version` hashes the content and is the same at
    every size. `height` and `width` are what the images have as they lie: for a folder, the median
    of a sample. `mended` says what was wrong with what had been decoded before, if it was damaged
    and decoded anew.
    """

    name: str
    version: str
    classes: tuple[str, ...]
    parts: Mapping[str, Part]
    skipped: tuple[Skipped, ...]
    height: int = 0
    width: int = 0
    mended: str | None = None
    stream: Stream | None = None

    @property
    def mode(self) -> str:
        """How its images come, as `data_loader.mode` calls it."""
        return "resident" if self.stream is None else "stream"

    def left_out(self, part: str) -> frozenset[int]:
        """The places in a part of what was left out."""
        return frozenset(each.place for each in self.skipped if each.part == part)

    def places(self, part: str) -> Sequence[int]:
        """Where each image of a part lay when it was decoded, those left out counted too."""
        images, left_out = len(self.parts[part].labels), self.left_out(part)
        everywhere = range(images + len(left_out))
        return [place for place in everywhere if place not in left_out] if left_out else everywhere
