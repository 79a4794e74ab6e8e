"""The models of losses held against torch.nn's."""

import inspect
from typing import Any

import pytest
import torch

from models_store import arguments
from models_store.losses import LOSSES, NO_LABEL
from problems import Problem


@pytest.mark.parametrize("name", LOSSES)
def test_names_and_defaults_are_pytorchs(name: str) -> None:
    known = inspect.signature(getattr(torch.nn, name)).parameters
    ours = LOSSES[name].model_fields
    assert ours.keys() | arguments.FIXED.keys() >= known.keys() >= ours.keys()
    for field_name, field in ours.items():
        assert field.default == known[field_name].default, field_name


def test_no_label_is_pytorchs() -> None:
    assert torch.nn.CrossEntropyLoss().ignore_index == NO_LABEL


@pytest.mark.parametrize(
    ("name", "given", "code", "loc"),
    [
        ("CrossEntropyLoss", {"reduction": "none"}, "invalid_request", ["reduction"]),
        ("CrossEntropyLoss", {"label_smoothing": 1.1}, "invalid_request", ["label_smoothing"]),
        ("CrossEntropyLoss", {"ignore_index": -1.5}, "invalid_request", ["ignore_index"]),
        ("CrossEntropyLoss", {"weight": [1, -1]}, "invalid_request", ["weight", 1]),
        ("CrossEntropyLoss", {"size_average": True}, "unknown_field", ["size_average"]),
        ("MSELoss", {"reduce": True}, "unknown_field", ["reduce"]),
        ("L1Loss", {"weight": [1.0]}, "unknown_field", ["weight"]),
    ],
)
def test_what_is_refused(name: str, given: dict[str, Any], code: str, loc: list[str | int]) -> None:
    with pytest.raises(Problem) as caught:
        arguments.complete("loss", name, given)
    assert caught.value.code == code
    assert caught.value.errors[0]["loc"] == ["body", "loss", *loc]


def test_a_loss_of_no_single_number_is_refused_with_the_reason() -> None:
    with pytest.raises(Problem, match="leaves no single number to go down"):
        arguments.complete("loss", "L1Loss", {"reduction": "none"})
