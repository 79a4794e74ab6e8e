"""RandomErasing: boxes of the image that are filled with a value or with noise."""

import torch

from models_store.constants import constant
from models_store.transforms import RandomErasing
from workers.augmentation.boxes import first_fit, placed, sides


def erase_pixels(
    images: torch.Tensor, asked: RandomErasing, generator: torch.Generator
) -> torch.Tensor:
    """(N, H, W, C) uint8. `value` is on the scale 0 to 1 and cut off there."""
    return _erase(images, asked, generator, scale=255)


def erase_inputs(
    inputs: torch.Tensor, asked: RandomErasing, generator: torch.Generator
) -> torch.Tensor:
    """(N, C, H, W) float, as the network sees them."""
    erased = _erase(inputs.permute(0, 2, 3, 1), asked, generator, scale=None)
    return erased.permute(0, 3, 1, 2)


def _erase(
    images: torch.Tensor, asked: RandomErasing, generator: torch.Generator, *, scale: int | None
) -> torch.Tensor:
    """Boxes of an area in `scale` and of height / width in `ratio`; an image that no box of ten
    tries fits into stays whole, as with torchvision.
    """
    n, height, width, _ = images.shape
    high, wide = sides(n, height * width, scale=asked.scale, ratio=asked.ratio, generator=generator)
    fits = (high < height) & (wide < width)
    box = placed(
        first_fit(high, fits, otherwise=0),
        first_fit(wide, fits, otherwise=0),
        within=(height, width),
        generator=generator,
    )
    chosen = torch.rand(n, generator=generator, device=images.device) < asked.p
    rows = _within(box.top, box.height, height).unsqueeze(2)
    columns = _within(box.left, box.width, width).unsqueeze(1)
    mask = (rows & columns & chosen.view(-1, 1, 1)).unsqueeze(3)
    value = _value(images, asked.value, generator)
    if scale is not None:
        value = (value.clamp(0, 1) * scale).round().to(images.dtype)
    return torch.where(mask, value, images)


def _within(start: torch.Tensor, length: torch.Tensor, side: int) -> torch.Tensor:
    """(N, side): which places lie in each image's part."""
    at = torch.arange(side, device=start.device)
    return (at >= start.unsqueeze(1)) & (at < (start + length).unsqueeze(1))


def _value(
    images: torch.Tensor, value: float | list[float] | str, generator: torch.Generator
) -> torch.Tensor:
    if isinstance(value, str):
        return torch.randn(images.shape, generator=generator, device=images.device)
    given = value if isinstance(value, list) else [float(value)]
    return constant(tuple(given), images.device)
