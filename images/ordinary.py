"""Ordinary JPEGs, at once: the pixels that Pillow makes of them, in a fifth of the time.

Pillow reads a header in Python, which takes longer than a small image itself. What is not ordinary,
or damaged in any way, is left to it, and to all that `opening` checks (docs/decisions/0050).
"""

import contextlib

import numpy as np
import simplejpeg
from numpy.typing import NDArray

# SOI and the whole header of JFIF 1.x (ITU-T T.871, 10.1): what comes first in files of libjpeg.
_BEGINNING = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01"
_FIRST_SEGMENT = 20
_BASELINE, _SCAN = 0xC0, 0xDA
# Huffman and quantization tables, restart interval, comment (ITU-T T.81, table B.1). Nothing here
# turns an image, changes its colours, or holds another one.
_HARMLESS = frozenset({0xC4, 0xDB, 0xDD, 0xFE})
_MOST_SEGMENTS = 64  # files of encoders have a dozen
_COLOURS = {1: "GRAY", 3: "RGB"}


def decode(data: bytes, *, size: tuple[int, int] | None, channels: int) -> NDArray[np.uint8] | None:
    """Writable uint8 (height, width, channels) of a sound baseline JPEG that has just this `size`
    and as many components as `channels`. None of everything else: Pillow is to read that.
    """
    if size is None or not data.startswith(_BEGINNING) or _shape(data) != (*size, channels):
        return None
    with contextlib.suppress(ValueError):  # at anything that libjpeg even warns of
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, _COLOURS[channels])
        return pixels
    return None


def _shape(data: bytes) -> tuple[int, int, int] | None:
    """Height, width and components where nothing but tables lies before one scan of them all."""
    at, shape = _FIRST_SEGMENT, None
    with contextlib.suppress(IndexError):
        for _ in range(_MOST_SEGMENTS):
            if data[at] != 0xFF:
                break
            kind = data[at + 1]
            if kind == _BASELINE and data[at + 4] == 8:  # bits
                height = data[at + 5] << 8 | data[at + 6]
                shape = height, data[at + 7] << 8 | data[at + 8], data[at + 9]
            elif kind == _SCAN:
                return shape if shape and data[at + 4] == shape[2] else None
            elif kind not in _HARMLESS:
                return None
            at += 2 + (data[at + 2] << 8 | data[at + 3])
    return None
