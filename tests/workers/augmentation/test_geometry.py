"""Turning images as torchvision turns them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models_store.transforms import RandomRotation
from workers.augmentation.geometry import rotate, turning, warp

Generator = Callable[[], torch.Generator]
ANGLES = torch.tensor([0.0, 30.0, -45.5, 89.0, 137.0, 180.0, 268.0, -359.0])


@pytest.mark.parametrize("center", [None, [3.0, 9.5]])
@pytest.mark.parametrize("fill", [0.0, 77.0, [10.0, 20.0, 200.0]])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_a_given_angle_is_torchvisions(
    mode: str,
    fill: Any,
    center: Any,
    chance: Generator,
    pictures: Any,
    each: Any,
    alike: Any,
    v2: Any,
) -> None:
    images = pictures(len(ANGLES))
    x, y = center or (13.0, 10.5)
    ours = warp(images, turning(ANGLES, around=(x - 13, y - 10.5)), mode=mode, fill=fill)

    def theirs(at: int, image: torch.Tensor) -> torch.Tensor:
        how = v2.InterpolationMode(mode)
        return v2.functional.rotate(image, ANGLES[at].item(), how, center=center, fill=fill)

    assert alike(ours, each(images, theirs))
    # The same through the transform itself, whose angle is then no matter of chance.
    asked = {"degrees": [30.0, 30.0], "interpolation": mode, "center": center, "fill": fill}
    rotation = RandomRotation.model_validate({"type": "RandomRotation", **asked})
    assert torch.equal(rotate(images, rotation, chance())[1], ours[1])


def test_right_angles_lose_no_pixel(pictures: Any) -> None:
    images = pictures(4, height=20, width=20)
    quarters = turning(torch.tensor([0.0, 90.0, 180.0, 270.0]), around=(0.0, 0.0))
    turned = warp(images, quarters, mode="nearest", fill=None)
    for times, (ours, image) in enumerate(zip(turned, images, strict=True)):
        assert torch.equal(ours, torch.rot90(image, times))


def test_without_a_fill_it_is_black(pictures: Any) -> None:
    images, matrix = pictures(8), turning(ANGLES, around=(0.0, 0.0))
    black = warp(images, matrix, mode="nearest", fill=0.0)
    assert torch.equal(warp(images, matrix, mode="nearest", fill=None), black)


@pytest.mark.parametrize(("degrees", "low", "high"), [(20.0, -20, 20), ([10.0, 40.0], 10, 40)])
def test_angles_are_alike_within_the_range(
    degrees: Any, low: int, high: int, chance: Generator
) -> None:
    ray = torch.zeros(1, 101, 101, 1, dtype=torch.uint8)
    ray[:, 50, 51:] = 255  # points to the right
    asked = RandomRotation(type="RandomRotation", degrees=degrees, interpolation="bilinear")
    turned = rotate(ray.expand(500, -1, -1, -1), asked, chance()).double().squeeze(3)
    at = torch.arange(101).double() - 50
    up, right = -(turned.sum(2) * at).sum(1), (turned.sum(1) * at).sum(1)
    angles = torch.rad2deg(torch.atan2(up, right))
    assert low - 0.5 < angles.min() < low + 1
    assert high - 1 < angles.max() < high + 0.5
    assert angles.mean().item() == pytest.approx((low + high) / 2, abs=1.5)
