"""The matrices that resize a part of a side, held against PyTorch's `interpolate`."""

import itertools

import pytest
import torch
from torch.nn import functional

from workers.augmentation.resampling import weights

MODES = ["nearest", "nearest-exact", "bilinear", "bicubic"]


@pytest.mark.parametrize(
    ("mode", "antialias"),
    [*itertools.product(MODES, [False]), ("bilinear", True), ("bicubic", True)],
)
@pytest.mark.parametrize("out", [5, 17, 30])
def test_weights_are_interpolates(mode: str, antialias: bool, out: int) -> None:
    side, parts = 17, [(0, 17), (3, 9), (12, 5), (16, 1)]
    values = torch.rand(side, generator=torch.Generator().manual_seed(0))
    start, length = torch.tensor(parts).unbind(1)
    made = weights(start, length, side, out, mode=mode, antialias=antialias)
    assert made.shape == (len(parts), out, side)
    assert torch.allclose(made.sum(2), torch.ones(len(parts), out), atol=1e-5)
    for matrix, (first, count) in zip(made, parts, strict=True):
        # One row of pixels, since antialiasing is for images only.
        part = values[first : first + count].view(1, 1, 1, count)
        how = {} if mode.startswith("nearest") else {"align_corners": False}
        expected = functional.interpolate(part, (1, out), mode=mode, antialias=antialias, **how)
        assert torch.allclose(matrix @ values, expected.flatten(), atol=1e-5)
