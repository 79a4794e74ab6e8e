"""Random boxes within an image, drawn as torchvision draws them. Knows nothing of pixels."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

_TRIES = 10  # torchvision's


class Boxes(NamedTuple):
    """One for each image, in whole pixels: four int64 tensors (N,)."""

    top: torch.Tensor
    left: torch.Tensor
    height: torch.Tensor
    width: torch.Tensor


def uniform(
    shape: Sequence[int], *, low: float, high: float, generator: torch.Generator
) -> torch.Tensor:
    """float32 from `low` to `high` on the generator's device."""
    drawn = torch.rand(*shape, generator=generator, device=generator.device)
    return low + (high - low) * drawn


def sides(
    n: int,
    area: int,
    *,
    scale: Sequence[float],
    ratio: Sequence[float],
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ten tries (10, N) at two sides: a share of `area` in `scale`, and first / second in `ratio`.

    The share is uniform, and so is the logarithm of the ratio.
    """
    areas = area * uniform((_TRIES, n), low=scale[0], high=scale[1], generator=generator)
    low, high = map(math.log, ratio)
    shape = uniform((_TRIES, n), low=low, high=high, generator=generator).exp_()
    first, second = (areas * shape).sqrt_().round_(), (areas / shape).sqrt_().round_()
    return first.to(torch.int64), second.to(torch.int64)


def first_fit(
    tries: torch.Tensor, fits: torch.Tensor, *, otherwise: torch.Tensor | int
) -> torch.Tensor:
    """(N,) from tries (10, N): for each image the first one that fits."""
    chosen = fits.to(torch.uint8).argmax(0, keepdim=True)
    return torch.where(fits.any(0), tries.gather(0, chosen).squeeze(0), otherwise)


def placed(
    height: torch.Tensor,
    width: torch.Tensor,
    *,
    within: tuple[int, int],
    generator: torch.Generator,
) -> Boxes:
    """Boxes of these sizes, each at any place in an image of (height, width) alike."""
    drawn = torch.rand(2, len(height), generator=generator, device=generator.device)
    # float32 is never 1, but a product may be rounded up to the next whole number.
    top, left = (
        torch.minimum((share * (room + 1)).to(torch.int64), room)
        for share, room in zip(drawn, (within[0] - height, within[1] - width), strict=True)
    )
    return Boxes(top, left, height, width)
