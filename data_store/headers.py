"""The size and greyness of images, told by their headers alone.

Decodes no pixel; `images` finds the format and keeps its limits when pixels are wanted.
"""

from collections.abc import Iterable
from pathlib import Path
from statistics import median_low
from typing import NamedTuple

from images import formats, opening, pixels

_GREY = frozenset({"1", "L", "LA", "La", "F", "I"})
_START = 4096  # bytes, more than any format needs to be told by


class Shape(NamedTuple):
    """Of an upright image: pixels, and 1 channel if its mode is grey, else 3."""

    height: int
    width: int
    channels: int


def typical(files: Iterable[Path]) -> Shape | None:
    """Median height and width; 1 channel only if all are grey. None when no file can be read."""
    shapes = [shape for shape in map(_shape, files) if shape is not None]
    if not shapes:
        return None
    heights, widths, channels = zip(*shapes, strict=True)
    return Shape(median_low(heights), median_low(widths), max(channels))


def _shape(path: Path) -> Shape | None:
    try:
        with path.open("rb") as file:
            reader = formats.reader_of(file.read(_START))
            file.seek(0)
            header = reader(file)
            turn = opening.turn(header)
    except Exception:  # as in `images.opening`: damaged files fail in Pillow in every way
        return None
    height, width = header.size if turn in pixels.SIDEWAYS else header.size[::-1]
    grey = header.mode in _GREY or header.mode.startswith("I;16")
    return Shape(height, width, 1 if grey else 3)
