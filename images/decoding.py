"""The public doors: a file or an array in, pixels of the wanted size out.

Holds the rule for inverting; does not know how files are read or what a model wants with them.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from images import opening, ordinary, pixels

# Border brightness further away than this from the training images' means a negative.
_INVERTED_BEYOND = 0.5


@dataclass(frozen=True, slots=True)
class InvertRule:
    """When to turn an image into its negative: its border differs from `border` by more than 0.5.

    `border` is the mean border brightness of the training images, 0 (black) to 1 (white).
    """

    border: float


@dataclass(frozen=True, slots=True)
class Decoded:
    """Pixels of one image, and what was found out about it on the way."""

    pixels: NDArray[np.uint8]  # (H, W, C), writable
    width: int  # of the upright original, before any scaling
    height: int
    frames: int  # > 1: animated or many pages, the first was taken; 2 may stand for more
    # Mean luminance of the outermost pixels, 0..1, before inverting and resizing, and its standard
    # deviation; NaN where nobody wants to know.
    border: float
    border_spread: float
    inverted: bool


def decode(
    data: bytes,
    *,
    size: tuple[int, int] | None,
    channels: int,
    invert: InvertRule | None = None,
    look_at_border: bool = True,
) -> Decoded:
    """The first image of a file, upright, on white, at `size` (height, width) or as it is.

    `channels` is 1 (luminance) or 3 (RGB). The whole image is resized, without keeping its aspect;
    a large JPEG is decoded at a fraction of its size first, so pixels depend on `size` and on
    nothing else. Without `look_at_border`, where no rule needs it, most of the time that a small
    JPEG takes is saved. Raises `Problem` alone: `empty_file`, `not_an_image`, `truncated_image`,
    `unsupported_format`, `image_too_large`.
    """
    looked = look_at_border or invert is not None
    ready = ordinary.decode(data, size=size, channels=channels)
    if ready is not None:
        mean, spread = border(ready) if looked else (math.nan, math.nan)
        inverted = _is_negative(mean, invert)
        height, width, _ = ready.shape
        ready = 255 - ready if inverted else ready
        return Decoded(ready, width, height, 1, mean, spread, inverted)
    opened = opening.read(data, at_least=size)
    image = opened.image
    mean, spread = _brightness(image) if looked else (math.nan, math.nan)
    inverted = _is_negative(mean, invert)
    if inverted:
        image = ImageOps.invert(image)
    return Decoded(
        pixels=pixels.resize(image, size, channels=channels, box=opened.box, turn=opened.turn),
        width=opened.width,
        height=opened.height,
        frames=opened.frames,
        border=mean,
        border_spread=spread,
        inverted=inverted,
    )


def resize(array: NDArray[np.uint8], size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Pixels (H, W, C), C being 1 or 3, to (height, width, channels): what `decode` does to a file.

    Always a new array.
    """
    return pixels.resize(_image(array), size, channels=channels)


def border(array: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and standard deviation, 0..1, of the luminance of the outermost pixels of (H, W, C)."""
    return _brightness(_image(array))


def _is_negative(border: float, rule: InvertRule | None) -> bool:
    return rule is not None and abs(border - rule.border) > _INVERTED_BEYOND


def _image(array: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def _brightness(image: Image.Image) -> tuple[float, float]:
    values = pixels.ring(image)
    return float(values.mean()), float(values.std())
