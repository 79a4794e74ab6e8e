"""From image bytes to the network's input, one way for training and prediction alike.

Knows nothing of networks, and nothing of where the bytes came from.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

import images
from images import Decoded, InvertRule
from models_store.constants import constant
from models_store.fields import Normalize
from models_store.manifest import Preprocessing
from models_store.shaping import shape
from models_store.transforms import ShapingTransform

# `invert: auto` (docs/decisions/0004): the training images' borders must be this uniform and this
# far from the middle, or a dark background is no property of the data set.
_DARK, _BRIGHT = 0.25, 0.75
_UNIFORM = 0.15


def decode(data: bytes, preprocessing: Preprocessing) -> Decoded:
    """Pixels (H, W, C) uint8 as training saw them. Raises what `images.decode` raises."""
    border = preprocessing.invert_from_border
    return images.decode(
        data,
        size=(preprocessing.height, preprocessing.width),
        channels=preprocessing.channels,
        invert=None if border is None else InvertRule(border=border),
        look_at_border=False,
    )


def to_input(
    pixels: torch.Tensor, normalize: Normalize | None, shaping: Sequence[ShapingTransform] = ()
) -> torch.Tensor:
    """(N, H, W, C) uint8, shaped, to (N, C, H, W) float32, 0 to 1 and normalized, in channels_last
    memory.

    Division by 255 in float32, as torchvision's ToTensor does, so the values agree to the bit.
    """
    if shaping:
        pixels = shape(pixels, shaping)
    scaled = pixels.permute(0, 3, 1, 2).to(torch.float32).div_(255)
    if normalize is None:
        return scaled
    mean, std = (
        constant(tuple(values), pixels.device).view(1, -1, 1, 1)
        for values in (normalize.mean, normalize.std)
    )
    return scaled.sub_(mean).div_(std)


def measure_normalize(count: int, totals: Sequence[int], squares: Sequence[int]) -> Normalize:
    """Mean and standard deviation of each channel, on the scale 0 to 1, of so many pixels, by the
    sum of their values, 0 to 255, and that of their squares in each channel.
    """
    mean = np.array(totals, np.float64) / (count * 255)
    # A channel without any variation is only centred.
    std = np.sqrt(np.maximum(np.array(squares, np.float64) / (count * 255**2) - mean**2, 0))
    std[std < 1e-6] = 1.0
    return Normalize(mean=mean.tolist(), std=std.tolist())


def measure_border(borders: NDArray[np.float32]) -> float | None:
    """The border brightness that prediction holds images against, or None when there is no rule.

    `borders` (N,) is each training image's mean border brightness, 0 to 1. There is a rule when
    the borders are alike, far from the middle, and the rule would invert no training image.
    """
    mean = float(borders.mean())
    uniform = float(borders.std()) < _UNIFORM
    fires = bool(negatives(borders, mean).any())
    if uniform and not fires and (mean < _DARK or mean > _BRIGHT):
        return mean
    return None


def negatives(borders: NDArray[np.float32], border: float) -> NDArray[np.bool_]:
    """Mask (N,) of the images that prediction inverts, by their border brightness (N,) and that of
    the training images.
    """
    far: NDArray[np.bool_] = np.abs(borders - border) > 0.5
    return far
