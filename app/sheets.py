"""Contact sheets: which images of a data set are shown, and how each fits its tile.

Knows data sets and pixels; drawing is `pictures`'. Blocks, so it is called in threads.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import images
from app import samples
from data_store import arrays
from problems import Problem

TILE = 72  # pixels a side
CLASSES = 100
"""Classes that are shown at most: the first ones."""
_TILES = 400  # about so many images in all
_FEW, _MANY = 3, 8  # images of a class


def drawn(name: str, root: Path, split: str) -> bytes:
    """The sheet of one part as a PNG.

    Raises `Problem` dataset_unknown, dataset_invalid, dataset_not_downloaded, not_found.
    """
    from app import pictures  # matplotlib

    facts = samples.local(name, root)
    labels = np.asarray(samples.labels(facts, root, split))
    shown = min(len(facts.classes), CLASSES)
    chosen = _chosen(labels, shown)
    indices = [index for of_class in chosen for index in of_class]
    files = dict(zip(indices, arrays.some_bytes(facts.name, root, split, indices), strict=True))
    counts = np.bincount(labels, minlength=len(facts.classes))
    return pictures.sheet(
        [
            pictures.Row(label, int(count), _tiles(of_class, files))
            for label, count, of_class in zip(facts.classes, counts, chosen, strict=False)
        ],
        name=facts.name,
        title=_title(split, len(labels), shown, len(facts.classes)),
    )


def _title(split: str, count: int, shown: int, classes: int) -> str:
    of = f"the first {shown} of {classes:,}" if shown < classes else f"{classes}"
    return f"{split}: {count:,} images, {of} classes"


def _chosen(labels: NDArray[np.int64], classes: int) -> list[list[int]]:
    """Indices of some images of each class, evenly from all of them."""
    most = min(max(_TILES // classes, _FEW), _MANY)
    found = []
    for label in range(classes):
        of_class = np.flatnonzero(labels == label)
        places = np.linspace(0, len(of_class) - 1, min(most, len(of_class)))
        found.append([int(of_class[place]) for place in places.astype(int)])
    return found


def _tiles(
    indices: Sequence[int], files: Mapping[int, bytes | None]
) -> list[NDArray[np.uint8] | None]:
    return [_tile(files[index]) for index in indices]


def _tile(file: bytes | None) -> NDArray[np.uint8] | None:
    """The whole image in its own shape, in the middle of a white tile; None for a file that is gone
    or cannot be read.
    """
    if file is None:
        return None
    try:
        decoded = images.decode(file, size=(TILE, TILE), channels=3)
        if max(decoded.width, decoded.height) <= TILE // 2:
            whole = images.decode(file, size=None, channels=3).pixels
            larger = TILE // max(decoded.width, decoded.height)
            pixels = whole.repeat(larger, axis=0).repeat(larger, axis=1)
        else:
            pixels = images.resize(decoded.pixels, _fitting(decoded.width, decoded.height), 3)
    except Problem:
        return None
    tile = np.full((TILE, TILE, 3), 255, np.uint8)
    height, width = pixels.shape[:2]
    top, left = (TILE - height) // 2, (TILE - width) // 2
    tile[top : top + height, left : left + width] = pixels
    return tile


def _fitting(width: int, height: int) -> tuple[int, int]:
    """(height, width) within a tile."""
    longer = max(width, height)
    return max(1, round(height * TILE / longer)), max(1, round(width * TILE / longer))
