"""The lines do to an image of Pillow what `shaping` does to a batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter

from models_store import shaping_lines
from models_store.shaping import shape
from models_store.transforms import ShapingTransform
from problems import Problem

_READ: TypeAdapter[list[ShapingTransform]] = TypeAdapter(list[ShapingTransform])


def _both(given: Sequence[dict[str, Any]], channels: int = 3) -> tuple[Any, Any]:
    """The same picture through the lines and through `shaping`, as (H, W, C)."""
    transforms = _READ.validate_python(given)
    small = np.random.default_rng(3).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((53, 41), Image.Resampling.BICUBIC)
    picture = picture.convert("L" if channels == 1 else "RGB")
    pixels = np.array(picture).reshape(41, 53, channels)
    found: dict[str, Any] = {"image": picture, "np": np, "Image": Image}
    exec("\n".join(shaping_lines.lines(transforms, (41, 53), channels=channels)), found)
    expected = shape(torch.from_numpy(pixels)[None], transforms)[0].numpy()
    return np.asarray(found["image"]).reshape(expected.shape), expected


@pytest.mark.parametrize(
    ("given", "channels", "off"),
    [
        ([], 3, 0),
        ([{"type": "Resize", "size": [41, 53]}], 3, 0),
        ([{"type": "Resize", "size": 20}], 3, 1),
        ([{"type": "Resize", "size": [90, 70], "interpolation": "bicubic"}], 3, 1),
        ([{"type": "Resize", "size": 20, "interpolation": "nearest"}], 3, 0),
        ([{"type": "Resize", "size": [60, 17], "interpolation": "nearest-exact"}], 1, 0),
        ([{"type": "CenterCrop", "size": [20, 31]}], 3, 0),
        ([{"type": "CenterCrop", "size": [50, 30]}, {"type": "CenterCrop", "size": 33}], 1, 0),
        ([{"type": "Grayscale", "num_output_channels": 3}], 3, 0),
    ],
)
def test_same_pixels(given: list[dict[str, Any]], channels: int, off: int) -> None:
    """Up to rounding where something is interpolated."""
    found, expected = _both(given, channels)
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= off
    assert difference.mean() < 0.4


def test_what_pillow_cannot_do_is_refused() -> None:
    with pytest.raises(Problem, match="antialiasing") as caught:
        _both([{"type": "Resize", "size": 20, "antialias": False}])
    assert caught.value.code == "export_failed"
