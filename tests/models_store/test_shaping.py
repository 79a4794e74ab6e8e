"""Resize, CenterCrop and Grayscale give torchvision's pixels, one image or many."""

import itertools

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from models_store import shaping
from models_store.preprocess import to_input
from models_store.transforms import CenterCrop, Grayscale, RandomCrop, Resize, ShapingTransform

SIZES = [(20, 20), (40, 60), (31, 10), (64, 64), (31, 46)]
MODES = ["nearest", "nearest-exact", "bilinear", "bicubic"]
SHAPED: list[ShapingTransform] = [
    *(
        Resize(type="Resize", size=list(size), interpolation=mode, antialias=smooth)
        for size, mode, smooth in itertools.product(SIZES[:2], MODES, [True, None])
    ),
    *(CenterCrop(type="CenterCrop", size=list(size)) for size in SIZES),
]


def batch(count: int, *, channels: int = 3) -> torch.Tensor:
    chance = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 31, 46, channels), dtype=torch.uint8, generator=chance)


def planes(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
def test_resizes_as_torchvision(
    size: tuple[int, int], mode: str, antialias: bool, channels: int
) -> None:
    images = batch(3, channels=channels)
    ours = shaping.resize(images, size, mode=mode, antialias=antialias)
    theirs = functional.resize(
        planes(images), list(size), InterpolationMode(mode), antialias=antialias
    )
    assert torch.equal(planes(ours), theirs)


@pytest.mark.parametrize("size", [*SIZES, (30, 45), (33, 47), (10, 50)])
def test_crops_the_middle_as_torchvision(size: tuple[int, int]) -> None:
    images = batch(3)
    ours = shaping.center_crop(images, size)
    assert torch.equal(planes(ours), functional.center_crop(planes(images), list(size)))


def test_makes_grey_as_torchvision() -> None:
    images = batch(3)
    theirs = functional.rgb_to_grayscale(planes(images), 3)
    assert torch.equal(planes(shaping.grayscale(images)), theirs)
    grey = batch(3, channels=1)
    assert torch.equal(shaping.grayscale(grey), grey)


@pytest.mark.parametrize("one", SHAPED, ids=lambda one: f"{one.type} {one.size}")
def test_an_image_comes_out_the_same_whatever_else_is_in_the_batch(one: ShapingTransform) -> None:
    images = batch(7)
    before = images.clone()
    together = shaping.shape(images, [one])
    alone = torch.cat([shaping.shape(image.unsqueeze(0), [one]) for image in images])
    assert torch.equal(together, alone)
    assert torch.equal(images, before)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("one", SHAPED, ids=lambda one: f"{one.type} {one.size}")
def test_the_input_is_laid_out_as_without(one: ShapingTransform, channels: int, count: int) -> None:
    """Else convolutions would be slower, or in other bits."""
    grey = Grayscale(type="Grayscale", num_output_channels=channels)
    made = to_input(batch(count, channels=channels), None, [one, grey])
    assert made.is_contiguous(memory_format=torch.channels_last)


def test_they_follow_one_another() -> None:
    resize, crop = Resize(type="Resize", size=20), CenterCrop(type="CenterCrop", size=[16, 18])
    images = batch(2)
    shaped = shaping.shape(images, [resize, crop])
    assert shaped.shape == (2, 16, 18, 3)
    assert torch.equal(shaped, shaping.shape(shaping.shape(images, [resize]), [crop]))
    assert torch.equal(shaping.shape(images, [RandomCrop(type="RandomCrop")]), images)
