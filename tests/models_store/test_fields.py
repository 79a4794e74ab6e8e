"""What the fields of a recipe take, before any default is filled in."""

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models_store.fields import (
    Normalize,
    Recipe,
    SubmittedRecipe,
)
from problems import Problem


def _parse(**body: Any) -> SubmittedRecipe:
    return SubmittedRecipe.model_validate(body)


def _refused(body: dict[str, Any]) -> list[tuple[str | int, ...]]:
    with pytest.raises(ValidationError) as caught:
        SubmittedRecipe.model_validate(body)
    return [error["loc"] for error in caught.value.errors()]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dataset", ""),
        ("dataset", 5),
        ("dataset", "a" * 201),
        ("dataset", "\ud800"),
        ("recipe", ["notes-mnist"]),
        ("architecture", {"layers": []}),
        ("epochs", 0),
        ("epochs", -1),
        ("epochs", 10**9),
        ("epochs", 10**30),
        ("epochs", 2.5),
        ("epochs", "2"),
        ("epochs", True),
        ("batch_size", 0),
        ("batch_size", 65_537),
        ("optimizer", 5),
        ("optimizer", ["SGD"]),
        ("scheduler", False),
        ("lr", -0.1),
        ("lr", math.nan),
        ("lr", math.inf),
        ("lr", 10**400),
        ("lr", True),
        ("loss", 5),
        ("class_weights", "even"),
        ("class_weights", []),
        ("class_weights", [1.0, -1.0]),
        ("class_weights", [math.inf, 1.0]),
        ("grad_accumulation", 0),
        ("grad_accumulation", 1.5),
        ("compile", "auto"),
        ("clip_grad_norm", 0),
        ("clip_grad_norm", -1),
        ("max_seconds", 0),
        ("max_seconds", math.inf),
        ("early_stopping", "val_loss"),
        ("early_stopping", {"metric": "train_loss"}),
        ("early_stopping", {"patience": 0}),
        ("early_stopping", {"min_delta": -0.1}),
        ("early_stopping", {"wait": 3}),
        ("image_size", 0),
        ("image_size", 2049),
        ("image_size", 28.5),
        ("image_size", [28]),
        ("image_size", [28, 28, 28]),
        ("image_size", [28, 0]),
        ("channels", 2),
        ("channels", "1"),
        ("normalize", "yes"),
        ("normalize", {"mean": [0.5]}),
        ("normalize", {"mean": [0.5], "std": [0]}),
        ("normalize", {"mean": [math.nan], "std": [1]}),
        ("normalize", {"mean": [0.5], "std": [math.inf]}),
        ("normalize", {"mean": [0.1] * 4, "std": [1] * 4}),
        ("invert", "always"),
        ("transforms", []),
        ("transforms", {"test": []}),
        ("transforms", {"train": None}),
        ("transforms", {"train": ["RandomHorizontalFlip"]}),
        ("transforms", {"train": [{"p": 0.5}]}),
        ("transforms", {"train": [{"type": "RandomHorizontalFlip", "p": 1.5}]}),
        ("transforms", {"train": [{"type": "RandomHorizontalFlip", "p": math.nan}]}),
        ("transforms", {"train": [{"type": "RandomCrop", "padding": -1}]}),
        ("transforms", {"train": [{"type": "RandomResizedCrop", "scale": [0, 1]}]}),
        ("transforms", {"train": [{"type": "RandomResizedCrop", "scale": [0.9, 0.1]}]}),
        ("transforms", {"train": [{"type": "RandomResizedCrop", "ratio": [1, math.inf]}]}),
        ("transforms", {"train": [{"type": "RandomHorizontalFlip"}] * 17}),
        ("data_loader", {"shuffle": 1}),
        ("data_loader", {"num_workers": 65}),
        ("data_loader", {"num_workers": -1}),
        ("data_loader", {"num_workers": "some"}),
        ("data_loader", {"num_workers": 2.5}),
        ("data_loader", {"mode": "streamed"}),
        ("data_loader", {"mode": None}),
        ("validation", 0),
        ("validation", 1),
        ("validation", math.nan),
        ("validation", True),
        ("validation", "train"),
        ("test", 0),
        ("test", 1),
        ("test", "test"),
        ("device", "tpu"),
        ("precision", "fp8"),
        ("seed", -1),
        ("seed", 2**53),
        ("checkpoints", {"keep": 0}),
        ("checkpoints", {"keep": "some"}),
        ("checkpoints", {"every_epochs": 0}),
        ("name", "a" * 201),
        ("tags", "one"),
        ("tags", None),
        ("tags", [""]),
        ("tags", ["a"] * 21),
        ("priority", 101),
        ("priority", 0.5),
    ],
)
def test_refused_at_their_place(field: str, value: object) -> None:
    assert {loc[0] for loc in _refused({"dataset": "mnist", field: value})} == {field}


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"epoch": 3}, ("epoch",)),
        ({"checkpoints": {"keep_all": True}}, ("checkpoints", "keep_all")),
        (
            {"transforms": {"train": [{"type": "RandomCrop", "paddin": 4}]}},
            ("transforms", "train", 0, "RandomCrop", "paddin"),
        ),
        ({"optimizer": {"name": 5}}, ("optimizer", "name")),
        ({"optimizer": ""}, ("optimizer", "name")),
        ({"optimizer": "\ud800"}, ("optimizer", "name")),
        ({"scheduler": "x" * 201}, ("scheduler", "name")),
    ],
)
def test_the_place_goes_down_to_the_field(body: dict[str, Any], loc: tuple[str | int, ...]) -> None:
    assert _refused({"dataset": "mnist", **body}) == [loc]


@pytest.mark.parametrize("path", ["../mnist", "/etc", "a/b", "a\\b", "a\0b", "/"])
def test_a_data_set_is_a_name_and_never_a_path(path: str) -> None:
    with pytest.raises(Problem) as caught:
        _parse(dataset=path)
    assert caught.value.code == "dataset_unknown"
    assert caught.value.hint == "Give a name from GET /datasets, never a path."
    assert caught.value.errors == [{"loc": ["body", "dataset"], "msg": "a name, not a path"}]


@pytest.mark.parametrize("name", ["CIFAR-10", "猫と犬", "my cats.v2", ".."])
def test_a_name_may_be_of_any_script(name: str) -> None:
    assert _parse(dataset=name).dataset == name


def test_the_learning_rate_is_given_once() -> None:
    with pytest.raises(Problem) as caught:
        _parse(dataset="mnist", lr=0.1, optimizer={"name": "SGD", "lr": 0.1})
    assert caught.value.code == "lr_twice"
    assert caught.value.hint == "Give either lr or optimizer.lr, not both."
    assert caught.value.errors[0]["loc"] == ["body", "lr"]
    assert _parse(dataset="mnist", lr=0.1, optimizer="SGD").lr == 0.1


def test_what_is_taken() -> None:
    submitted = _parse(
        image_size=[20, 30],
        channels=3,
        normalize={"mean": [0, 0.5, 1], "std": [1, 1, 1]},
        validation=0.25,
        checkpoints={"keep": "all"},
        seed=2**53 - 1,
    )
    assert submitted.image_size == [20, 30]
    assert isinstance(submitted.normalize, Normalize)
    assert submitted.validation == 0.25


def test_json_has_one_kind_of_number() -> None:
    submitted = _parse(epochs=2.0, image_size=28.0, channels=1.0)
    found = (submitted.epochs, submitted.image_size, submitted.channels)
    assert found == (2, 28, 1)
    assert all(type(number) is int for number in found)


def test_a_submitted_recipe_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        _parse(dataset="mnist").epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(("image_size", "size"), [(28, (28, 28)), ([20, 30], (20, 30))])
def test_size_is_height_and_width(image_size: object, size: tuple[int, int]) -> None:
    assert Recipe.model_construct(image_size=image_size).size == size


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(sorted(SubmittedRecipe.model_fields)), json_values))
def test_any_json_is_taken_or_refused(body: dict[str, Any]) -> None:
    try:
        _parse(**body)
    except (ValidationError, Problem):
        return


def test_a_recipe_of_an_older_danlu_still_means_what_it_meant() -> None:
    """As it lies in the row of a job."""
    stored = {
        "dataset": "mnist", "architecture": "mnist_net", "epochs": 2, "batch_size": 128,
        "optimizer": {"name": "SGD", "lr": 0.01}, "scheduler": None,
        "loss": {"name": "CrossEntropyLoss"}, "image_size": 28, "channels": 1, "normalize": None,
        "invert": "auto", "transforms": {"train": []},
        "data_loader": {"shuffle": False, "drop_last": False}, "validation": "test",
        "device": "auto", "precision": "fp32", "seed": 0,
        "checkpoints": {"every_epochs": 1, "keep": "all"},
    }  # fmt: skip
    recipe = Recipe.model_validate(stored)
    assert (recipe.grad_accumulation, recipe.clip_grad_norm, recipe.max_seconds) == (1, None, None)
    assert (recipe.class_weights, recipe.early_stopping, recipe.test) == (None, None, None)
    assert recipe.data_loader.num_workers == "auto"
    assert recipe.compile is False
