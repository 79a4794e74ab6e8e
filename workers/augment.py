"""Augmentation of whole batches on the device: pure functions of uint8 tensors (N, H, W, C).

Each image draws its own numbers from the given generator. Knows nothing of recipes' defaults.
"""

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from models_store.fields import (
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    TrainTransform,
)


def augment(
    images: torch.Tensor, transforms: Sequence[TrainTransform], generator: torch.Generator
) -> torch.Tensor:
    """The transforms in order; shape (N, H, W, C) and type uint8 stay."""
    for transform in transforms:
        match transform:
            case RandomHorizontalFlip(p=p):
                images = flip(images, p=p, generator=generator)
            case RandomCrop(padding=padding):
                images = crop(images, padding=padding, generator=generator)
            case RandomResizedCrop(scale=scale, ratio=ratio):
                images = resized_crop(images, scale=scale, ratio=ratio, generator=generator)
    return images


def flip(images: torch.Tensor, *, p: float, generator: torch.Generator) -> torch.Tensor:
    """Mirrors each image left to right with probability `p`."""
    chosen = torch.rand(len(images), generator=generator, device=images.device) < p
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(2), images)


def crop(images: torch.Tensor, *, padding: int, generator: torch.Generator) -> torch.Tensor:
    """Pads by `padding` black pixels on each side and cuts the old size out at a random place."""
    n, height, width, _ = images.shape
    device = images.device
    padded = functional.pad(images, (0, 0, padding, padding, padding, padding))
    top, left = torch.randint(0, 2 * padding + 1, (2, n, 1), generator=generator, device=device)
    rows = (top + torch.arange(height, device=device)).view(n, height, 1)
    columns = (left + torch.arange(width, device=device)).view(n, 1, width)
    return padded[torch.arange(n, device=device).view(n, 1, 1), rows, columns]


def resized_crop(
    images: torch.Tensor,
    *,
    scale: Sequence[float],
    ratio: Sequence[float],
    generator: torch.Generator,
) -> torch.Tensor:
    """A random part of each image, of an area in `scale` and a shape in `ratio`, at full size.

    Area and log of the shape are uniform as in torchvision's RandomResizedCrop; a side that would
    be longer than the image is cut to it where torchvision draws again.
    """
    n, height, width, _ = images.shape
    draw = torch.rand((4, n), generator=generator, device=images.device)
    area = (scale[0] + (scale[1] - scale[0]) * draw[0]) * height * width
    log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
    shape = torch.exp(log_low + (log_high - log_low) * draw[1])
    w = (area * shape).sqrt().clamp(1, width) / width  # as a share of the side
    h = (area / shape).sqrt().clamp(1, height) / height
    # Centre of the part on affine_grid's scale from -1 to 1.
    x = (2 * draw[2] - 1) * (1 - w)
    y = (2 * draw[3] - 1) * (1 - h)
    zero = torch.zeros_like(w)
    affine = torch.stack([w, zero, x, zero, h, y], dim=1).view(n, 2, 3)
    planes = images.permute(0, 3, 1, 2).float()
    grid = functional.affine_grid(affine, list(planes.shape), align_corners=False)
    cut = functional.grid_sample(planes, grid, padding_mode="border", align_corners=False)
    return cut.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
