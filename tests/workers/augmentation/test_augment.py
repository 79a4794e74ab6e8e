import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from models_store.transforms import (
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    TrainTransform,
)
from workers.augmentation.augment import augment

Generator = Callable[[], torch.Generator]


@pytest.fixture
def chance() -> Generator:
    return lambda: torch.Generator().manual_seed(0)


@pytest.fixture
def v2() -> Any:
    # Not at the top: it takes two seconds in every process that collects these tests.
    from torchvision.transforms import v2

    return v2


def batch(count: int, *, height: int = 8, width: int = 6, channels: int = 3) -> torch.Tensor:
    shape = (count, height, width, channels)
    return torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def nchw(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2)


def test_nothing_asked_for_changes_nothing(chance: Generator) -> None:
    images = batch(4)

    assert torch.equal(augment(images, [], chance()), images)


@pytest.mark.parametrize(
    "transform",
    [
        RandomHorizontalFlip(type="RandomHorizontalFlip"),
        RandomCrop(type="RandomCrop"),
        RandomResizedCrop(type="RandomResizedCrop"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_type_stay_and_the_generator_decides(
    transform: TrainTransform, channels: int, chance: Generator
) -> None:
    images = batch(16, channels=channels)
    before = images.clone()

    changed = augment(images, [transform], chance())

    assert (changed.shape, changed.dtype) == (images.shape, torch.uint8)
    assert torch.equal(augment(images, [transform], chance()), changed)
    assert not torch.equal(changed, images)
    assert torch.equal(images, before)  # they are the data set's own, mapped from disk


def test_flips_are_torchvisions(chance: Generator, v2: Any) -> None:
    images = batch(4000, height=2, width=3, channels=1)
    mirrored = v2.functional.horizontal_flip(nchw(images)).permute(0, 2, 3, 1)

    def flipped(p: float) -> torch.Tensor:
        asked = RandomHorizontalFlip(type="RandomHorizontalFlip", p=p)
        return augment(images, [asked], chance())

    assert torch.equal(flipped(1.0), mirrored)
    assert torch.equal(flipped(0.0), images)
    is_mirrored = (flipped(0.3) == mirrored).flatten(1).all(1)
    is_same = (flipped(0.3) == images).flatten(1).all(1)
    assert bool((is_mirrored | is_same).all())
    assert is_mirrored.float().mean().item() == pytest.approx(0.3, abs=0.03)


def test_crops_are_every_window_of_torchvisions_padded_image_alike(
    chance: Generator, v2: Any
) -> None:
    padding, count = 2, 5000
    one = torch.arange(1, 49, dtype=torch.uint8).view(1, 8, 6, 1)  # each pixel tells where it was
    padded = v2.functional.pad(nchw(one), [padding] * 4)
    windows = torch.stack(
        [
            v2.functional.crop(padded, top, left, 8, 6)[0].permute(1, 2, 0)
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
        ]
    )

    asked = RandomCrop(type="RandomCrop", padding=padding)
    cropped = augment(one.expand(count, -1, -1, -1), [asked], chance())

    matches = (cropped.flatten(1)[:, None] == windows.flatten(1)[None]).all(2)
    assert bool((matches.sum(1) == 1).all())
    shares = matches.float().mean(0)
    # 25 windows: a share of 0.04, whose standard deviation over 5,000 draws is 0.0028.
    assert shares.tolist() == pytest.approx([1 / 25] * 25, abs=4 * 0.0028)


def test_each_image_draws_its_own_place(chance: Generator) -> None:
    same = batch(1).expand(32, -1, -1, -1)

    cropped = augment(same, [RandomCrop(type="RandomCrop", padding=4)], chance())

    assert len({tuple(image.flatten().tolist()) for image in cropped}) > 20


def test_the_whole_image_at_full_size_is_itself(chance: Generator) -> None:
    images = batch(8, height=16, width=16)
    whole = RandomResizedCrop(type="RandomResizedCrop", scale=[1.0, 1.0], ratio=[1.0, 1.0])

    assert torch.equal(augment(images, [whole], chance()), images)


SIDE = 96


def boxes_of(cropped: torch.Tensor) -> torch.Tensor:
    """(N, 4) of top, left, height and width in pixels, read off an image whose red rises from left
    to right and whose green rises from top to bottom, by 2 a pixel.
    """
    down, across = cropped[..., 1].double() / 2, cropped[..., 0].double() / 2
    inner = slice(SIDE // 8, -SIDE // 8)  # at the very edge brightness is cut off
    steps = SIDE - 2 * (SIDE // 8) - 1
    height = (down[:, inner].mean(2)[:, -1] - down[:, inner].mean(2)[:, 0]) / steps * SIDE
    width = (across.mean(1)[:, inner][:, -1] - across.mean(1)[:, inner][:, 0]) / steps * SIDE
    top = down.mean((1, 2)) + 0.5 - height / 2
    left = across.mean((1, 2)) + 0.5 - width / 2
    return torch.stack([top, left, height, width], dim=1)


def test_resized_crops_are_distributed_as_torchvisions(chance: Generator, v2: Any) -> None:
    count, scale, ratio = 3000, [0.1, 0.5], [3 / 4, 4 / 3]  # no side is ever longer than the image
    rise = torch.arange(SIDE, dtype=torch.uint8) * 2
    image = torch.zeros(SIDE, SIDE, 3, dtype=torch.uint8)
    image[..., 0], image[..., 1] = rise.view(1, -1), rise.view(-1, 1)
    torch.manual_seed(0)
    drawing = v2.RandomResizedCrop(SIDE, scale, ratio)
    boxes = [drawing.make_params([image.permute(2, 0, 1)]) for _ in range(count)]
    sides = ("top", "left", "height", "width")
    theirs = torch.tensor([[box[side] for side in sides] for box in boxes], dtype=torch.float64)

    asked = RandomResizedCrop(type="RandomResizedCrop", scale=scale, ratio=ratio)
    ours = boxes_of(augment(image.expand(count, -1, -1, -1), [asked], chance()))

    assert ours.mean(0).tolist() == pytest.approx(theirs.mean(0).tolist(), abs=1.2)
    assert ours.std(0).tolist() == pytest.approx(theirs.std(0).tolist(), rel=0.06)
    for quantile in (0.1, 0.9):
        mine, other = (boxes.quantile(quantile, dim=0) for boxes in (ours, theirs))
        assert mine.tolist() == pytest.approx(other.tolist(), abs=2.0)
    shape = (ours[:, 3] / ours[:, 2]).log()
    assert shape.abs().max().item() < math.log(4 / 3) + 0.05


def test_transforms_follow_in_order(chance: Generator) -> None:
    images = batch(4)
    flip = RandomHorizontalFlip(type="RandomHorizontalFlip", p=1.0)
    crop = RandomCrop(type="RandomCrop", padding=1)
    generator = chance()

    step_by_step = augment(augment(images, [flip], generator), [crop], generator)

    assert torch.equal(augment(images, [flip, crop], chance()), step_by_step)
