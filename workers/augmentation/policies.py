"""AutoAugment, RandAugment and TrivialAugmentWide: changes drawn from a table, one an image.

Which changes there are and how strong they may be is torchvision's. Images are (N, H, W, C) uint8
and stay so.
"""

import functools
from collections.abc import Collection
from dataclasses import dataclass

import torch

from models_store.constants import constant
from models_store.transforms import AutoAugment, RandAugment, TrivialAugmentWide
from workers.augmentation import colour, geometry
from workers.augmentation.colour import Change, only
from workers.augmentation.policy_tables import POLICIES

# Those that turn, shear or shift are a matrix each, and so are done at once.
MOVES = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")


def _factor(change: Change) -> Change:
    """torchvision adds these magnitudes to 1, at which nothing changes."""
    return lambda images, magnitude: change(images, 1 + magnitude)


COLOURS: dict[str, Change] = {
    "Brightness": _factor(colour.brighten),
    "Color": _factor(colour.saturate),
    "Contrast": _factor(colour.contrast),
    "Sharpness": _factor(colour.sharpen),
    "Posterize": colour.posterize,
    "Solarize": colour.solarize,
    "AutoContrast": colour.autocontrast,
    "Equalize": colour.equalize,
    "Invert": colour.invert,
}
OPERATIONS = (*MOVES, "Identity", *COLOURS)
_WITHOUT_INVERT = len(OPERATIONS) - 1  # what RandAugment and TrivialAugmentWide choose from
_SIGNED = frozenset({*MOVES, "Brightness", "Color", "Contrast", "Sharpness"})


@dataclass(frozen=True, slots=True)
class Strengths:
    """The largest magnitude of each change; shifts are in pixels, angles in degrees."""

    shear: float
    across: float
    down: float
    angle: float
    factor: float
    bits: float


def _usual(images: torch.Tensor) -> Strengths:
    height, width = images.shape[1:3]
    shift = 150 / 331  # of the paper's images
    return Strengths(0.3, shift * width, shift * height, 30.0, 0.9, 4.0)


_WIDE = Strengths(0.99, 32.0, 32.0, 135.0, 0.99, 6.0)


@functools.lru_cache(maxsize=16)
def magnitudes(strengths: Strengths, bins: int) -> torch.Tensor:
    """float32 (operations, bins), from none to the largest.

    Rounded just as torchvision's, since shifts are cut to whole pixels.
    """
    s = strengths
    largest = {
        **{"ShearX": s.shear, "ShearY": s.shear, "Rotate": s.angle},
        **{"TranslateX": s.across, "TranslateY": s.down},
        **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), s.factor),
    }
    table = {name: torch.linspace(0.0, most, bins) for name, most in largest.items()}
    table["Solarize"] = torch.linspace(1.0, 0.0, bins)
    table["Posterize"] = (8 - torch.arange(bins) / ((bins - 1) / s.bits)).round()
    return torch.stack([table.get(name, torch.zeros(bins)) for name in OPERATIONS])


@functools.lru_cache(maxsize=16)
def _table(strengths: Strengths, bins: int, device: torch.device) -> torch.Tensor:
    return magnitudes(strengths, bins).to(device, non_blocking=True)


def rand_augment(
    images: torch.Tensor, asked: RandAugment, generator: torch.Generator
) -> torch.Tensor:
    """`num_ops` changes one after the other, all of the same strength."""
    table = _table(_usual(images), asked.num_magnitude_bins, images.device)
    for _ in range(asked.num_ops):
        operations = _any_of(_WITHOUT_INVERT, images, generator)
        strong = _signed(operations, table[operations, asked.magnitude], generator)
        images = change(images, operations, strong, asked)
    return images


def trivial_augment_wide(
    images: torch.Tensor, asked: TrivialAugmentWide, generator: torch.Generator
) -> torch.Tensor:
    """One change, of any strength."""
    operations = _any_of(_WITHOUT_INVERT, images, generator)
    bins = _any_of(asked.num_magnitude_bins, images, generator)
    table = _table(_WIDE, asked.num_magnitude_bins, images.device)
    strong = _signed(operations, table[operations, bins], generator)
    return change(images, operations, strong, asked)


def auto_augment(
    images: torch.Tensor, asked: AutoAugment, generator: torch.Generator
) -> torch.Tensor:
    """One of the policy's pairs of changes, each of which is made or not."""
    rows = POLICIES[asked.policy]
    table = _table(_usual(images), 10, images.device)
    chosen = _any_of(len(rows), images, generator)
    for steps in zip(*rows, strict=True):
        listed = tuple((OPERATIONS.index(what), p, bin_) for what, p, bin_ in steps)
        operation, likely, bins = constant(listed, images.device)[chosen].unbind(1)
        made = torch.rand(len(images), generator=generator, device=images.device) <= likely
        operations = torch.where(made, operation, OPERATIONS.index("Identity")).long()
        strong = _signed(operations, table[operations, bins.long()], generator)
        used = {what for what, _, _ in steps}
        images = change(images, operations, strong, asked, used=used)
    return images


def change(
    images: torch.Tensor,
    operations: torch.Tensor,
    strong: torch.Tensor,
    asked: AutoAugment | RandAugment | TrivialAugmentWide,
    *,
    used: Collection[str] = OPERATIONS,
) -> torch.Tensor:
    """To each image its own of `OPERATIONS` (N,), `strong` (N,) by so much; all are `used`."""

    def move(some: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        return geometry.warp(some, matrix, mode=asked.interpolation, fill=asked.fill)

    matrix = _matrix(images, operations, strong)
    images = only(operations < len(MOVES), move, images, matrix)
    for name, recolour in COLOURS.items():
        if name in used:
            images = only(operations == OPERATIONS.index(name), recolour, images, strong)
    return images


def _matrix(images: torch.Tensor, operations: torch.Tensor, strong: torch.Tensor) -> torch.Tensor:
    """(N, 2, 3) for `geometry.warp`. Shears keep the upper left corner where it is."""
    height, width = images.shape[1:3]
    shear_x, shear_y, right, down, angle = (
        torch.where(operations == at, strong, 0.0) for at in range(len(MOVES))
    )
    matrix = geometry.turning(angle, around=(0.0, 0.0))
    matrix[:, 0, 1] += shear_x
    matrix[:, 0, 2] += shear_x * (height / 2) - right.trunc()
    matrix[:, 1, 0] += shear_y
    matrix[:, 1, 2] += shear_y * (width / 2) - down.trunc()
    return matrix


def _any_of(count: int, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    shape = (len(images),)
    return torch.randint(0, count, shape, generator=generator, device=images.device)


def _signed(
    operations: torch.Tensor, strong: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """To either side, where there are two."""
    drawn = torch.rand(len(operations), generator=generator, device=operations.device)
    listed = tuple(name in _SIGNED for name in OPERATIONS)
    two_sided = constant(listed, operations.device, dtype=torch.bool)[operations]
    turned = two_sided & (drawn <= 0.5)
    return torch.where(turned, -strong, strong)
