"""Every change of colour, held against torchvision's function for one image."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models_store.transforms import ColorJitter
from workers.augmentation import colour
from workers.augmentation.colour import Change, jitter, only

Generator = Callable[[], torch.Generator]
COUNT = 12
FACTORS = torch.linspace(0, 2.2, COUNT)
SHARES = torch.linspace(0, 1, COUNT)

# Ours, its numbers, and torchvision's function with what it calls the number.
CHANGES: list[tuple[Change, torch.Tensor, Callable[[Any, torch.Tensor, float], torch.Tensor]]] = [
    (colour.brighten, FACTORS, lambda f, image, number: f.adjust_brightness(image, number)),
    (colour.contrast, FACTORS, lambda f, image, number: f.adjust_contrast(image, number)),
    (colour.saturate, FACTORS, lambda f, image, number: f.adjust_saturation(image, number)),
    (colour.sharpen, FACTORS, lambda f, image, number: f.adjust_sharpness(image, number)),
    (colour.shift_hue, SHARES - 0.5, lambda f, image, number: f.adjust_hue(image, number)),
    (
        colour.posterize,
        torch.arange(COUNT).float() % 9,
        lambda f, image, number: f.posterize(image, int(number)),
    ),
    (colour.solarize, SHARES, lambda f, image, number: f.solarize(image, 255 * number)),
    (colour.autocontrast, SHARES, lambda f, image, _: f.autocontrast(image)),
    (colour.equalize, SHARES, lambda f, image, _: f.equalize(image)),
    (colour.invert, SHARES, lambda f, image, _: f.invert(image)),
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("change", CHANGES, ids=lambda one: one[0].__name__)
def test_is_torchvisions(
    change: Any, channels: int, pictures: Any, each: Any, alike: Any, v2: Any
) -> None:
    ours, numbers, theirs = change
    images = pictures(COUNT, channels=channels)
    before = images.clone()
    changed = ours(images, numbers)
    assert alike(
        changed, each(images, lambda at, one: theirs(v2.functional, one, numbers[at].item()))
    )
    assert torch.equal(images, before)


@pytest.mark.parametrize("change", CHANGES, ids=lambda one: one[0].__name__)
def test_flat_and_tiny_images(change: Any, each: Any, alike: Any, v2: Any) -> None:
    ours, numbers, theirs = change
    for size in ((2, 3), (1, 1), (5, 5)):
        images = torch.arange(COUNT, dtype=torch.uint8).mul(23).view(-1, 1, 1, 1)
        images = images.expand(COUNT, *size, 3).contiguous()
        assert alike(
            ours(images, numbers),
            each(images, lambda at, one: theirs(v2.functional, one, numbers[at].item())),
        )


def test_only_the_chosen_are_changed(pictures: Any) -> None:
    images = pictures(6)
    mask = torch.tensor([True, False, False, True, False, False])
    changed = only(mask, colour.brighten, images, torch.full((6,), 0.5))
    halved = colour.brighten(images, torch.full((6,), 0.5))
    assert torch.equal(changed, torch.where(mask.view(-1, 1, 1, 1), halved, images))
    assert only(~mask & mask, colour.brighten, images, torch.zeros(6)) is images
    assert torch.equal(only(mask | ~mask, colour.invert, images, torch.zeros(6)), ~images)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
@pytest.mark.parametrize("change", CHANGES, ids=lambda one: one[0].__name__)
def test_a_gpu_changes_the_same(change: Any, pictures: Any, alike: Any) -> None:
    ours, numbers, _ = change
    images, mask = pictures(COUNT), torch.arange(COUNT) % 3 == 0
    there = only(mask.cuda(), ours, images.cuda(), numbers.cuda())
    assert alike(there.cpu(), only(mask, ours, images, numbers))


def jittered(images: torch.Tensor, generator: torch.Generator, **given: Any) -> torch.Tensor:
    asked = ColorJitter.model_validate({"type": "ColorJitter", **given})
    return jitter(images, asked, generator)


@pytest.mark.parametrize(
    ("name", "change", "given", "factor"),
    [
        ("brightness", colour.brighten, [0.5, 0.5], 0.5),
        ("contrast", colour.contrast, [1.5, 1.5], 1.5),
        ("saturation", colour.saturate, [0.0, 0.0], 0.0),
        ("hue", colour.shift_hue, [0.25, 0.25], 0.25),
    ],
)
def test_each_is_its_own_change(
    name: str, change: Change, given: list[float], factor: float, chance: Generator, pictures: Any
) -> None:
    images = pictures(5)
    made = jittered(images, chance(), **{name: given})
    assert torch.equal(made, change(images, torch.full((5,), factor)))


def test_what_changes_nothing_changes_nothing(chance: Generator, pictures: Any) -> None:
    images = pictures(5)
    assert torch.equal(jittered(images, chance()), images)
    still = {"brightness": 0, "contrast": [1, 1], "saturation": 0.0, "hue": [0, 0]}
    assert torch.equal(jittered(images, chance(), **still), images)


@pytest.mark.parametrize(("given", "low", "high"), [(0.4, 0.6, 1.4), (1.5, 0, 2.5), ([1, 2], 1, 2)])
def test_factors_are_alike_within_the_range(
    given: Any, low: float, high: float, chance: Generator
) -> None:
    images = torch.full((4000, 1, 1, 1), 100, dtype=torch.uint8)
    factors = jittered(images, chance(), brightness=given).flatten().float() / 100
    assert factors.min().item() == pytest.approx(low, abs=0.02)
    assert factors.max().item() == pytest.approx(high, abs=0.02)
    assert factors.mean().item() == pytest.approx((low + high) / 2, abs=0.03)


def test_the_order_is_each_images_own_and_every_order_alike(chance: Generator) -> None:
    """Brightness and contrast do not commute: half of the images come out either way."""
    images = torch.tensor([10, 240], dtype=torch.uint8).view(1, 2, 1, 1).expand(2000, -1, -1, -1)
    made = jittered(images, chance(), brightness=[1.5, 1.5], contrast=[0.5, 0.5])
    kinds, counts = made.flatten(1).unique(dim=0, return_counts=True)
    assert len(kinds) == 2
    assert counts.tolist() == pytest.approx([1000, 1000], abs=100)
