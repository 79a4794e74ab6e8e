"""Crops: torchvision's pixels for a given box, and its boxes on the whole."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from models_store.transforms import RandomCrop, RandomResizedCrop
from workers.augmentation.boxes import Boxes
from workers.augmentation.crops import crop, cut, pad, parts, resized_crop

Generator = Callable[[], torch.Generator]


def nchw(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
@pytest.mark.parametrize("paddings", [(0, 0, 0, 0), (3, 1, 7, 5), (0, 9, 0, 0)])
def test_pads_as_torchvision(
    mode: str, paddings: tuple[int, int, int, int], pictures: Any, v2: Any
) -> None:
    images = pictures(3)
    ours = pad(images, paddings, fill=0, mode=mode)
    theirs = v2.functional.pad(nchw(images), list(paddings), padding_mode=mode)
    assert torch.equal(nchw(ours), theirs)


@pytest.mark.parametrize("fill", [128.0, [5.0], [1.0, 2.5, 255.0]])
def test_fills_as_torchvision(fill: Any, pictures: Any, v2: Any) -> None:
    images = pictures(2)
    ours = pad(images, (1, 2, 3, 4), fill=fill, mode="constant")
    assert torch.equal(nchw(ours), v2.functional.pad(nchw(images), [1, 2, 3, 4], fill=fill))


@pytest.mark.parametrize(
    "given", [{"padding": 2}, {"size": [4, 5]}, {"size": 9, "pad_if_needed": True, "fill": 9}]
)
def test_crops_are_every_window_of_torchvisions_padded_image_alike(
    given: dict[str, Any], chance: Generator, v2: Any
) -> None:
    count = 5000
    one = torch.arange(1, 49, dtype=torch.uint8).view(1, 8, 6, 1)  # each pixel tells where it was
    asked = RandomCrop.model_validate({"type": "RandomCrop", **given})
    padded = v2.functional.pad(nchw(one), list(asked.paddings(8, 6)), fill=asked.fill)
    height, width = (8, 6) if asked.size is None else (asked.size, asked.size)
    if isinstance(asked.size, list):
        height, width = asked.size
    windows = padded[0, 0].unfold(0, height, 1).unfold(1, width, 1).flatten(0, 1)

    cropped = crop(one.expand(count, -1, -1, -1), asked, chance())

    assert cropped.shape == (count, height, width, 1)
    matches = (cropped.view(count, 1, -1) == windows.reshape(1, len(windows), -1)).all(2)
    assert bool((matches.sum(1) == 1).all())
    share = 1 / len(windows)
    deviation = math.sqrt(share * (1 - share) / count)
    assert matches.float().mean(0).tolist() == pytest.approx(
        [share] * len(windows), abs=4.5 * deviation
    )


def test_each_image_draws_its_own_place(chance: Generator, pictures: Any) -> None:
    same = pictures(1).expand(32, -1, -1, -1)
    cropped = crop(same, RandomCrop(type="RandomCrop"), chance())
    assert len({tuple(image.flatten().tolist()) for image in cropped}) > 20


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(21, 26), (7, 5), (12, 40), (30, 30)])
def test_a_box_is_cut_out_as_torchvision_does(
    size: tuple[int, int], mode: str, antialias: bool, pictures: Any, each: Any, alike: Any, v2: Any
) -> None:
    images = pictures(6)
    boxes = Boxes(*torch.tensor([(0, 0, 21, 26), (3, 5, 9, 11), (20, 25, 1, 1)] * 2).unbind(1))
    ours = cut(images, boxes, size, mode=mode, antialias=antialias)

    def theirs(at: int, image: torch.Tensor) -> torch.Tensor:
        box = [int(side[at]) for side in boxes]
        # As numbers: the bytes that torchvision keeps in between round once more.
        made = v2.functional.resized_crop(
            image.float(), *box, list(size), v2.InterpolationMode(mode), antialias
        )
        return made.round().clamp(0, 255).to(torch.uint8)

    assert alike(ours, each(images, theirs), share=0.03)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_the_whole_image_at_full_size_is_itself(
    mode: str, chance: Generator, pictures: Any
) -> None:
    images = pictures(8, height=16, width=16)
    whole = {"scale": [1.0, 1.0], "ratio": [1.0, 1.0], "interpolation": mode}
    asked = RandomResizedCrop.model_validate({"type": "RandomResizedCrop", **whole})
    assert torch.equal(resized_crop(images, asked, chance()), images)


@pytest.mark.parametrize(("ratio", "box"), [([2, 3], (13, 26)), ([0.4, 0.5], (21, 10))])
def test_what_never_fits_is_the_middle(
    ratio: list[float], box: tuple[int, int], chance: Generator, pictures: Any, v2: Any
) -> None:
    """No part with all of the image's area has another shape."""
    images = pictures(3)
    given = {"size": list(box), "scale": [1.0, 1.0], "ratio": ratio}
    asked = RandomResizedCrop.model_validate({"type": "RandomResizedCrop", **given})
    middle = v2.functional.crop(
        nchw(images), (21 - box[0]) // 2, (26 - box[1]) // 2, box[0], box[1]
    )
    assert torch.equal(nchw(resized_crop(images, asked, chance())), middle)


@pytest.mark.parametrize(
    ("scale", "ratio"),
    [([0.08, 1.0], [3 / 4, 4 / 3]), ([0.6, 1.0], [0.5, 2.0]), ([0.1, 0.2], [2, 3])],
)
def test_parts_are_distributed_as_torchvisions(
    scale: list[float], ratio: list[float], chance: Generator, v2: Any
) -> None:
    count, height, width = 4000, 60, 90
    torch.manual_seed(0)
    drawing = v2.RandomResizedCrop(8, scale, ratio)
    image = torch.zeros(3, height, width)
    drawn = [drawing.make_params([image]) for _ in range(count)]
    names = ("top", "left", "height", "width")
    theirs = torch.tensor([[box[side] for side in names] for box in drawn]).double()

    given = {"type": "RandomResizedCrop", "scale": scale, "ratio": ratio}
    asked = RandomResizedCrop.model_validate(given)
    boxes = parts(count, (height, width), asked, generator=chance())
    ours = torch.stack(boxes, dim=1).double()

    assert ours.mean(0).tolist() == pytest.approx(theirs.mean(0).tolist(), abs=1.2)
    assert ours.std(0).tolist() == pytest.approx(theirs.std(0).tolist(), rel=0.06)
    for quantile in (0.1, 0.5, 0.9):
        mine, other = (boxes.quantile(quantile, dim=0) for boxes in (ours, theirs))
        assert mine.tolist() == pytest.approx(other.tolist(), abs=3.0)
    assert bool((boxes.top + boxes.height <= height).all())
    assert bool((boxes.left + boxes.width <= width).all())


def test_all_ways_of_cutting_keep_the_type(chance: Generator, pictures: Any) -> None:
    for size, mode in itertools.product([None, 10, 40], ["nearest", "bilinear", "bicubic"]):
        given = {"size": size, "interpolation": mode}
        asked = RandomResizedCrop.model_validate({"type": "RandomResizedCrop", **given})
        made = resized_crop(pictures(2), asked, chance())
        assert (made.dtype, made.is_contiguous()) == (torch.uint8, True)
