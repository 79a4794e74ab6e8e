"""What an image looks like in a few numbers, by which copies of it are found.

Knows nothing of files and of other images.
"""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from images import pixels
from images.opening import Opened

THUMB = 8  # pixels a side, in colour
DIGEST_BYTES = 16
# Larger JPEGs are decoded at a fraction of their size that has these pixels at least.
AT_LEAST = (256, 256)

_SIDE = 32
_LOW = 8
# Rows 1 to 8 of the discrete cosine transform (DCT-II) of 32 values.
_COSINES = np.cos(np.pi / _SIDE * np.outer(np.arange(1, _LOW + 1), np.arange(_SIDE) + 0.5)).astype(
    np.float32
)
_BITS = np.uint64(1) << np.arange(_LOW * _LOW, dtype=np.uint64)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`digest` is of all pixels, or of the file where those were not all decoded: equal for copies.

    `shape` is a hash whose bits are alike for images that look alike: pHash, the signs of the low
    frequencies of the brightness around their median (Zauner 2010, "Implementation and Benchmarking
    of Perceptual Image Hash Functions", 3.2.1; without the frequencies 0, of rows and columns).
    `thumb` has 8 x 8 colours.
    """

    digest: bytes
    shape: int
    thumb: bytes


def take(opened: Opened, data: bytes) -> Fingerprint:
    """Of an image, upright, that was read from the bytes `data`."""
    image = opened.image
    digest = blake2b(digest_size=DIGEST_BYTES)
    if opened.box is not None:
        digest.update(data)
    else:
        digest.update(f"{image.mode}{image.size}{opened.turn}".encode())
        digest.update(image.tobytes())
    grey = _at(opened, _SIDE, channels=1)[:, :, 0]
    return Fingerprint(digest.digest(), _shape(grey), _at(opened, THUMB, channels=3).tobytes())


def _at(opened: Opened, side: int, *, channels: int) -> NDArray[np.uint8]:
    return pixels.resize(
        opened.image, (side, side), channels=channels, box=opened.box, turn=opened.turn
    )


def _shape(grey: NDArray[np.uint8]) -> int:
    low = (_COSINES @ grey.astype(np.float32) @ _COSINES.T).ravel()
    return int(_BITS[low > np.median(low)].sum())
