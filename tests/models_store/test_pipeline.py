"""Lists of transforms as they are written, and the sizes that leave them."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torchvision.transforms import v2

from models_store.pipeline import EVAL, TRAIN, Transforms, size_after, size_of, stages
from models_store.transforms import Resize
from problems import Problem


def _refusal(**lists: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        Transforms.model_validate(lists)
    return caught.value


def _train(*given: dict[str, Any] | str) -> Transforms:
    listed = [{"type": one} if isinstance(one, str) else one for one in given]
    return Transforms.model_validate({"train": listed})


def test_what_prediction_knows() -> None:
    assert set(EVAL) == {"Resize", "CenterCrop", "Grayscale", "Normalize"}
    assert EVAL.items() <= TRAIN.items()


@pytest.mark.parametrize("written", ["RandAugment", "randaugment", "Rand_Augment", "rand-augment"])
def test_a_name_is_matched_as_names_are(written: str) -> None:
    assert _train(written).train[0].type == "RandAugment"


def test_an_unknown_name() -> None:
    problem = _refusal(train=[{"type": "MixUp"}, {"type": "RandAugmented", "p": 1}])
    assert problem.code == "transform_unknown"
    assert problem.hint.startswith("Did you mean 'RandAugment'")
    assert problem.errors[0]["loc"] == ["body", "transforms", "train", 1, "type"]
    assert "TrivialAugmentWide" in _refusal(train=[{"type": "x"}]).hint


def test_chance_is_refused_in_eval() -> None:
    problem = _refusal(eval=[{"type": "Resize", "size": 8}, {"type": "random_crop"}])
    assert problem.code == "transforms_misfit"
    assert problem.detail == "transforms.eval[1]: RandomCrop is random, and prediction is not."
    assert problem.errors[0]["loc"] == ["body", "transforms", "eval", 1]


@pytest.mark.parametrize(
    ("name", "argument", "reason"),
    [
        ("RandomErasing", "inplace", "danlu decides"),
        ("Normalize", "inplace", "danlu decides"),
        ("RandomRotation", "expand", "all images of a batch"),
        ("MixUp", "num_classes", "the classes of the data set"),
        ("CutMix", "labels_getter", "danlu hands"),
    ],
)
def test_what_danlu_sets_itself_is_refused_by_name(name: str, argument: str, reason: str) -> None:
    problem = _refusal(train=[{"type": name, argument: False}])
    assert problem.code == "unknown_field"
    assert problem.detail == f"{name} has no argument {argument!r} here."
    assert problem.hint.startswith(f"Leave it out: {reason}")
    assert problem.errors[0]["loc"] == ["body", "transforms", "train", 0, argument]


@pytest.mark.parametrize(
    "given", [5, {"train": 5}, {"train": [5]}, {"train": [{}]}, {"train": [{"type": 5}]}, {"x": []}]
)
def test_no_lists(given: Any) -> None:
    with pytest.raises(ValidationError):
        Transforms.model_validate(given)


def test_sixteen_at_most() -> None:
    with pytest.raises(ValidationError):
        _train(*["MixUp"] * 17)


def test_the_pixels_of_eval_are_shaped_by_all_but_normalize() -> None:
    lists = Transforms.model_validate(
        {
            "eval": [
                {"type": "CenterCrop", "size": 8},
                {"type": "Normalize", "mean": [0], "std": [1]},
            ]
        }
    )
    assert [one.type for one in lists.shaping] == ["CenterCrop"]
    assert Transforms().shaping == []


NORMALIZE = {"type": "Normalize", "mean": [0.5], "std": [0.5]}


@pytest.mark.parametrize(
    ("listed", "pixels", "inputs"),
    [
        ([], 0, 0),
        (["RandomCrop", "RandomErasing", "MixUp"], 1, 2),
        (["RandomErasing", "RandomCrop"], 2, 0),
        (["RandomErasing", NORMALIZE, "CutMix"], 1, 1),
        (["RandomCrop", NORMALIZE], 1, 0),
        ([NORMALIZE, "RandomErasing"], 0, 1),
    ],
)
def test_a_list_is_parted_at_normalize(listed: list[Any], pixels: int, inputs: int) -> None:
    train = _train(*listed).train
    parted = stages(train)
    assert parted.pixels == train[:pixels]
    assert parted.inputs == train[len(train) - inputs :]


sides = st.integers(1, 60)


@settings(max_examples=150, deadline=None)
@given(
    height=sides,
    width=sides,
    size=st.none() | sides | st.lists(sides, min_size=1, max_size=2),
    max_size=st.none() | sides,
)
def test_resize_makes_the_size_that_torchvision_makes(
    height: int, width: int, size: Any, max_size: int | None
) -> None:
    try:
        ours = Resize(type="Resize", size=size, max_size=max_size)
    except ValidationError:
        return
    made = size_after(ours, (height, width))
    if min(made) < 1:  # torchvision fails too; the rules refuse it
        return
    theirs = v2.Resize(size, max_size=max_size)(torch.zeros(1, height, width, dtype=torch.uint8))
    assert tuple(theirs.shape[1:]) == made


def test_sizes_follow_one_another() -> None:
    lists = _train(
        {"type": "Resize", "size": 40},
        {"type": "RandomCrop", "size": [32, 30]},
        "RandomResizedCrop",
        "RandomErasing",
    )
    assert size_of((20, 30), lists.train) == (32, 30)
    assert size_of((20, 30), lists.train[:1]) == (40, 60)
