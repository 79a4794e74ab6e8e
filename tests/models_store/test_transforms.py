"""The arguments of transforms, held against torchvision's own classes."""

import enum
import inspect
import math
from typing import Any

import pytest
from pydantic import ValidationError
from torchvision.transforms import v2

from models_store import transforms
from models_store.pipeline import TRAIN
from models_store.transforms import FIXED, RandomCrop, Transform

# To leave the size out is danlu's: it then is that of the image. So is the habit of padding by 4.
OURS = {("RandomCrop", "size"), ("RandomResizedCrop", "size"), ("Resize", "size")}


def _make(name: str, **given: Any) -> Transform:
    return TRAIN[name].model_validate({"type": name, **given})


def _plain(default: Any) -> Any:
    if isinstance(default, enum.Enum):
        return default.value
    return list(default) if isinstance(default, tuple) else default


def test_all_that_were_promised_are_there() -> None:
    assert set(TRAIN) == {
        *("Resize", "CenterCrop", "RandomCrop", "RandomResizedCrop", "RandomHorizontalFlip"),
        *("RandomVerticalFlip", "RandomRotation", "ColorJitter", "Grayscale", "RandomErasing"),
        *("Normalize", "AutoAugment", "RandAugment", "TrivialAugmentWide", "MixUp", "CutMix"),
    }


@pytest.mark.parametrize("name", TRAIN)
def test_names_and_defaults_are_torchvisions(name: str) -> None:
    theirs = inspect.signature(getattr(v2, name)).parameters
    ours = {key: field for key, field in TRAIN[name].model_fields.items() if key != "type"}
    assert theirs.keys() - FIXED.keys() == ours.keys()
    for key, field in ours.items():
        if (name, key) in OURS:
            assert field.default is None
        elif theirs[key].default is inspect.Parameter.empty:
            assert field.is_required(), key
        else:
            assert field.default == _plain(theirs[key].default), key


def test_fixed_lists_nothing_that_torchvision_has_not() -> None:
    known = {key for name in TRAIN for key in inspect.signature(getattr(v2, name)).parameters}
    assert set(FIXED) <= known


@pytest.mark.parametrize("name", TRAIN)
def test_what_is_written_can_be_read(name: str) -> None:
    needed = {"CenterCrop": {"size": 8}, "Resize": {"size": 8}, "RandomRotation": {"degrees": 5}}
    needed["Normalize"] = {"mean": [0.5], "std": [0.5]}
    made = _make(name, **needed.get(name, {}))
    assert TRAIN[name].model_validate(made.model_dump(mode="json")) == made


@pytest.mark.parametrize(
    ("given", "padding"),
    [
        ({}, 4),
        ({"padding": None}, 4),
        ({"padding": 0}, 0),
        ({"size": 28}, None),
        ({"size": 28, "padding": 4}, 4),
    ],
)
def test_a_crop_to_the_images_size_is_padded(given: dict[str, Any], padding: int | None) -> None:
    crop = _make("RandomCrop", **given)
    assert isinstance(crop, RandomCrop)
    assert crop.padding == padding


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"size": 8}, (0, 0, 0, 0)),
        ({"padding": 3}, (3, 3, 3, 3)),
        ({"padding": [3]}, (3, 3, 3, 3)),
        ({"padding": [3, 1]}, (3, 1, 3, 1)),
        ({"padding": [1, 2, 3, 4]}, (1, 2, 3, 4)),
        ({"size": [20, 8], "pad_if_needed": True}, (0, 10, 0, 10)),
        ({"size": 20, "padding": [1, 2], "pad_if_needed": True}, (7, 8, 7, 8)),
        ({"size": 9, "pad_if_needed": True}, (0, 0, 0, 0)),
    ],
)
def test_paddings_of_an_image_10_high_and_12_wide(
    given: dict[str, Any], expected: tuple[int, ...]
) -> None:
    crop = _make("RandomCrop", **given)
    assert isinstance(crop, RandomCrop)
    # Left, top, right, bottom; what torchvision's own crop pads by.
    assert crop.paddings(10, 12) == expected
    drawn = v2.RandomCrop(
        crop.size or (10, 12), crop.padding or None, pad_if_needed=crop.pad_if_needed
    ).make_params([v2.functional.to_image(_image(10, 12))])
    assert tuple(drawn["padding"]) == expected


def _image(height: int, width: int) -> Any:
    import torch

    return torch.zeros(3, height, width)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("Resize", {}),
        ("Resize", {"size": 0}),
        ("Resize", {"size": [8, 8, 8]}),
        ("Resize", {"size": 2049}),
        ("Resize", {"size": [8, 9], "max_size": 10}),
        ("Resize", {"size": 8, "max_size": 8}),
        ("Resize", {"size": 8, "interpolation": "lanczos"}),
        ("CenterCrop", {}),
        ("RandomCrop", {"padding": -1}),
        ("RandomCrop", {"padding": 513}),
        ("RandomCrop", {"padding": [1, 2, 3]}),
        ("RandomCrop", {"padding_mode": "wrap"}),
        ("RandomCrop", {"padding_mode": "edge", "fill": 3}),
        ("RandomCrop", {"fill": 256}),
        ("RandomResizedCrop", {"scale": [0, 1]}),
        ("RandomResizedCrop", {"scale": [0.9, 0.1]}),
        ("RandomResizedCrop", {"ratio": [1, math.inf]}),
        ("RandomResizedCrop", {"ratio": [2, 1]}),
        ("RandomHorizontalFlip", {"p": 1.5}),
        ("RandomVerticalFlip", {"p": math.nan}),
        ("RandomRotation", {}),
        ("RandomRotation", {"degrees": -5}),
        ("RandomRotation", {"degrees": [5, -5]}),
        ("RandomRotation", {"degrees": 5, "interpolation": "bicubic"}),
        ("RandomRotation", {"degrees": 5, "center": [1]}),
        ("ColorJitter", {"brightness": -1}),
        ("ColorJitter", {"contrast": [2, 1]}),
        ("ColorJitter", {"saturation": [-1, 1]}),
        ("ColorJitter", {"hue": 0.6}),
        ("ColorJitter", {"hue": [-0.6, 0]}),
        ("Grayscale", {"num_output_channels": 2}),
        ("RandomErasing", {"scale": [0.5, 0.1]}),
        ("RandomErasing", {"scale": [0.5, 1.1]}),
        ("RandomErasing", {"ratio": [0, 1]}),
        ("RandomErasing", {"value": "noise"}),
        ("RandomErasing", {"value": math.nan}),
        ("Normalize", {"mean": [0.5]}),
        ("Normalize", {"mean": [0.5], "std": [0]}),
        ("AutoAugment", {"policy": "mnist"}),
        ("RandAugment", {"magnitude": 31}),
        ("RandAugment", {"num_ops": 17}),
        ("RandAugment", {"num_magnitude_bins": 1}),
        ("TrivialAugmentWide", {"fill": [1, 2, 3, 4]}),
        ("MixUp", {"alpha": 0}),
        ("CutMix", {"alpha": math.inf}),
        ("CutMix", {"beta": 1}),
    ],
)
def test_refused(name: str, given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _make(name, **given)


def test_no_transform_is_left_out_of_the_lists() -> None:
    models = {
        one
        for one in vars(transforms).values()
        if inspect.isclass(one) and issubclass(one, Transform) and one is not Transform
    }
    assert models == set(TRAIN.values())
