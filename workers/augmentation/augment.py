"""A list of transforms on whole batches on the device: uint8 tensors (N, H, W, C) in and out.

Each image draws its own numbers from the given generator, and nothing waits for the device.
Knows nothing of recipes' defaults; what each transform does is its own module's to say.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from models_store.shaping import shape
from models_store.transforms import (
    AutoAugment,
    ColorJitter,
    RandAugment,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomVerticalFlip,
    TrainTransform,
    TrivialAugmentWide,
)
from workers.augmentation import colour, crops, erasing, geometry, policies

_Change = Callable[[torch.Tensor, Any, torch.Generator], torch.Tensor]


def augment(
    images: torch.Tensor, transforms: Sequence[TrainTransform], generator: torch.Generator
) -> torch.Tensor:
    """The transforms in order; those that draw nothing are `models_store.shaping`'s."""
    for one in transforms:
        change = _CHANGES.get(type(one))
        images = shape(images, [one]) if change is None else change(images, one, generator)
    return images


def flip(images: torch.Tensor, *, axis: int, p: float, generator: torch.Generator) -> torch.Tensor:
    """Mirrors each image with probability `p`: along its width (`axis` 2) or its height (1)."""
    chosen = torch.rand(len(images), generator=generator, device=images.device) < p
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(axis), images)


def _across(
    images: torch.Tensor, asked: RandomHorizontalFlip, generator: torch.Generator
) -> torch.Tensor:
    return flip(images, axis=2, p=asked.p, generator=generator)


def _down(
    images: torch.Tensor, asked: RandomVerticalFlip, generator: torch.Generator
) -> torch.Tensor:
    return flip(images, axis=1, p=asked.p, generator=generator)


_CHANGES: dict[type, _Change] = {
    RandomHorizontalFlip: _across,
    RandomVerticalFlip: _down,
    RandomCrop: crops.crop,
    RandomResizedCrop: crops.resized_crop,
    RandomRotation: geometry.rotate,
    ColorJitter: colour.jitter,
    RandomErasing: erasing.erase_pixels,
    AutoAugment: policies.auto_augment,
    RandAugment: policies.rand_augment,
    TrivialAugmentWide: policies.trivial_augment_wide,
}
