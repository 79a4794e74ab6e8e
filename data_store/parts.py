"""The records of a decoded data set: its parts, and the files that were left out of them.

Knows nothing of where they come from or how they are kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Part:
    """Some images of a data set: `images` uint8 (N, H, W, C) and `labels` (N,).

    `borders` and `spreads` (N,) are mean and standard deviation, 0..1, of the brightness of each
    image's outermost ring of pixels, measured before it was resized.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    borders: NDArray[np.float32]
    spreads: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was left out: its path from the data set's folder on, a code, and why."""

    file: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class DataSet:
    """A decoded data set: `parts` has "train", maybe "val" and "test"; their images are mapped from
    disk, copy on write. `version` hashes the content and is the same at every size. `mended` says
    what was wrong with what had been decoded before, if it was damaged and decoded anew.
    """

    name: str
    version: str
    classes: tuple[str, ...]
    parts: Mapping[str, Part]
    skipped: tuple[Skipped, ...]
    mended: str | None = None
