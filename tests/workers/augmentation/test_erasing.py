"""Erased boxes: of what size and where, and with what they are filled."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from models_store.transforms import RandomErasing
from workers.augmentation.erasing import erase_inputs, erase_pixels

Generator = Callable[[], torch.Generator]


def asked(**given: Any) -> RandomErasing:
    return RandomErasing.model_validate({"type": "RandomErasing", **given})


def boxes_of(erased: torch.Tensor) -> torch.Tensor:
    """(N, 4) of top, left, height and width of what is not 0 in (N, H, W)."""
    rows, columns = erased.any(2), erased.any(1)
    tops, lefts = (one.to(torch.uint8).argmax(1) for one in (rows, columns))
    return torch.stack([tops, lefts, rows.sum(1), columns.sum(1)], dim=1)


@pytest.mark.parametrize(("scale", "ratio"), [([0.02, 0.33], [0.3, 3.3]), ([0.3, 0.9], [0.5, 2.0])])
def test_boxes_are_distributed_as_torchvisions(
    scale: list[float], ratio: list[float], chance: Generator, v2: Any
) -> None:
    count, height, width = 2500, 24, 36
    torch.manual_seed(0)
    drawing = v2.RandomErasing(1.0, scale, ratio)
    image = torch.zeros(1, height, width)
    drawn = [drawing.make_params([image]) for _ in range(count)]
    boxes = [[one[side] for side in "ijhw"] for one in drawn if one["v"] is not None]
    theirs = torch.tensor(boxes).double()

    inputs = torch.zeros(count, 1, height, width)
    erased = erase_inputs(inputs, asked(p=1.0, scale=scale, ratio=ratio, value=1.0), chance())
    filled = erased.squeeze(1) > 0
    ours = boxes_of(filled[filled.flatten(1).any(1)]).double()

    assert len(ours) == pytest.approx(len(theirs), abs=4 * math.sqrt(count) / 2)
    assert bool((ours[:, 2:].prod(1) == filled.sum((1, 2))[filled.flatten(1).any(1)]).all())
    assert ours.mean(0).tolist() == pytest.approx(theirs.mean(0).tolist(), abs=1.0)
    assert ours.std(0).tolist() == pytest.approx(theirs.std(0).tolist(), rel=0.06)


def test_each_image_is_erased_with_probability_p(chance: Generator) -> None:
    inputs = torch.zeros(4000, 1, 8, 8)
    erased = erase_inputs(inputs, asked(p=0.3, value=1.0), chance()).flatten(1).any(1)
    assert erased.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert not erase_inputs(inputs, asked(p=0.0, value=1.0), chance()).any()


def test_what_no_box_fits_into_stays_whole(chance: Generator) -> None:
    inputs = torch.zeros(50, 1, 8, 8)
    assert not erase_inputs(inputs, asked(p=1, scale=[1, 1], value=1.0), chance()).any()


@pytest.mark.parametrize("value", [0.0, 0.5, -2.0, [0.1, 0.2, 0.3]])
def test_values_of_inputs_are_taken_as_they_are(value: Any, chance: Generator) -> None:
    inputs = torch.full((20, 3, 8, 8), 7.0).to(memory_format=torch.channels_last)
    erased = erase_inputs(inputs, asked(p=1.0, value=value), chance())
    changed = (erased != 7).all(1)
    wanted = torch.tensor(value).expand(3)
    assert changed.any()
    assert torch.equal(erased.permute(0, 2, 3, 1)[changed], wanted.expand(changed.sum(), 3))
    assert erased.is_contiguous(memory_format=torch.channels_last)
    assert bool((inputs == 7).all())


@pytest.mark.parametrize(
    ("value", "byte"),
    [(0.0, [0] * 3), (0.5, [128] * 3), (-1.0, [0] * 3), ([1.0, 0.2, 9.0], [255, 51, 255])],
)
def test_values_of_pixels_are_from_0_to_1(value: Any, byte: list[int], chance: Generator) -> None:
    images = torch.full((20, 8, 8, 3), 7, dtype=torch.uint8)
    erased = erase_pixels(images, asked(p=1.0, value=value), chance())
    assert erased.dtype == torch.uint8
    changed = (erased != 7).all(3)
    assert erased[changed].unique(dim=0).tolist() == [byte]


def test_noise_is_normal(chance: Generator) -> None:
    inputs = torch.full((300, 3, 16, 16), 100.0)
    noise = asked(p=1.0, value="random")
    drawn = erase_inputs(inputs, noise, chance())
    drawn = drawn[drawn < 50]
    assert (drawn.mean().item(), drawn.std().item()) == pytest.approx((0, 1), abs=0.03)
    pixels = torch.full((300, 16, 16, 3), 7, dtype=torch.uint8)
    erased = erase_pixels(pixels, noise, chance())
    assert len(erased.unique()) > 200
