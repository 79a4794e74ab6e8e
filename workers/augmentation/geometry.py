"""Turning, shearing and shifting images, each by its own amount.

Images are (N, H, W, C) uint8 and stay so.
"""

import torch
from torch.nn import functional

from models_store.constants import constant
from models_store.transforms import RandomRotation
from workers.augmentation.boxes import uniform


def rotate(images: torch.Tensor, asked: RandomRotation, generator: torch.Generator) -> torch.Tensor:
    """Turns each image against the clock by a number of `degrees`, all alike."""
    degrees = asked.degrees
    low, high = degrees if isinstance(degrees, list) else (-degrees, degrees)
    angle = uniform((len(images),), low=low, high=high, generator=generator)
    height, width = images.shape[1:3]
    x, y = asked.center or (width / 2, height / 2)
    matrix = turning(angle, around=(x - width / 2, y - height / 2))
    return warp(images, matrix, mode=asked.interpolation, fill=asked.fill)


def turning(degrees: torch.Tensor, *, around: tuple[float, float]) -> torch.Tensor:
    """Matrices (N, 2, 3) for `warp`; `around` is x and y seen from the middle of the image."""
    x, y = around
    radians = degrees * (torch.pi / 180)
    cos, sin = radians.cos(), radians.sin()
    matrix = [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y]
    return torch.stack(matrix, dim=1).view(-1, 2, 3)


def warp(
    images: torch.Tensor, matrix: torch.Tensor, *, mode: str, fill: float | list[float] | None
) -> torch.Tensor:
    """Fills each place from where its matrix (N, 2, 3) sends it, in pixels seen from the middle.

    What comes from outside is `fill`, 0 to 255: one number, one a channel, or None for black.
    """
    _, height, width, channels = images.shape
    planes = images.permute(0, 3, 1, 2).float()
    grid = _grid(matrix, height, width)
    values = fill if isinstance(fill, list) else [fill or 0.0]
    # Places outside read as 0, which is what `nearest` makes of a fill of 0 too.
    if fill is None or (mode == "nearest" and not any(values)):
        return _pixels(functional.grid_sample(planes, grid, mode=mode, align_corners=False))
    inside = torch.ones_like(planes[:, :1])
    sampled = functional.grid_sample(
        torch.cat([planes, inside], dim=1), grid, mode=mode, align_corners=False
    )
    planes, inside = sampled[:, :channels], sampled[:, channels:]
    filling = constant(tuple(values), images.device).view(1, -1, 1, 1)
    if mode == "nearest":
        return _pixels(torch.where(inside < 0.5, filling, planes))
    return _pixels((planes - filling) * inside + filling)


def _grid(matrix: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(N, H, W, 2): where each pixel comes from, on grid_sample's scale from -1 to 1."""
    device = matrix.device
    x = torch.arange(width, device=device) - (width - 1) / 2
    y = torch.arange(height, device=device) - (height - 1) / 2
    places = torch.stack(
        [x.expand(height, width), y.unsqueeze(1).expand(height, width), x.new_ones(height, width)],
        dim=2,
    ).view(1, height * width, 3)
    half = torch.stack([x.new_full((), width / 2), x.new_full((), height / 2)])
    sources = places.expand(len(matrix), -1, -1) @ (matrix.transpose(1, 2) / half)
    return sources.view(len(matrix), height, width, 2)


def _pixels(planes: torch.Tensor) -> torch.Tensor:
    return planes.round().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
