"""Random boxes: where they lie, and how large they are."""

from collections.abc import Callable

import pytest
import torch

from workers.augmentation.boxes import first_fit, placed, sides, uniform

Generator = Callable[[], torch.Generator]


def test_uniform_numbers(chance: Generator) -> None:
    drawn = uniform((20_000,), low=-2.0, high=4.0, generator=chance())
    assert (drawn.min().item(), drawn.max().item()) == pytest.approx((-2, 4), abs=0.01)
    assert drawn.mean().item() == pytest.approx(1, abs=0.05)


def test_sides_have_the_area_and_the_ratio(chance: Generator) -> None:
    first, second = sides(2000, 100_000, scale=[0.1, 0.2], ratio=[0.5, 2.0], generator=chance())
    assert first.shape == second.shape == (10, 2000)
    area, ratio = first * second / 100_000, first / second
    assert 0.098 < area.min() < area.max() < 0.202
    assert area.mean().item() == pytest.approx(0.15, abs=0.002)
    assert 0.49 < ratio.min() < ratio.max() < 2.02
    assert ratio.log().mean().item() == pytest.approx(0, abs=0.02)


def test_the_first_try_that_fits_is_taken() -> None:
    tries = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    fits = torch.tensor([[False, True, False], [True, True, False], [True, False, False]])
    assert first_fit(tries, fits, otherwise=-1).tolist() == [4, 2, -1]


def test_every_place_is_as_likely(chance: Generator) -> None:
    height = torch.full((9000,), 4)
    boxes = placed(height, height + 2, within=(6, 6), generator=chance())
    assert boxes.top.unique(return_counts=True)[1].tolist() == pytest.approx([3000] * 3, abs=200)
    assert boxes.left.unique().tolist() == [0]
    assert torch.equal(boxes.width, height + 2)


def test_a_box_never_lies_outside(chance: Generator) -> None:
    height = torch.arange(1, 2049).repeat(20)
    boxes = placed(height, height.flip(0), within=(2048, 2048), generator=chance())
    for start, length in ((boxes.top, boxes.height), (boxes.left, boxes.width)):
        assert start.min() >= 0
        assert (start + length).max() <= 2048
