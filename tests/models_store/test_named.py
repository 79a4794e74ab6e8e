"""Optimizers, schedulers and losses as people write them, and as /openapi.json describes them."""

from typing import Any

import pytest

from models_store import arguments
from models_store.fields import SubmittedRecipe
from models_store.named import SubmittedLoss, SubmittedOptimizer, SubmittedScheduler


def _parse(**body: Any) -> SubmittedRecipe:
    return SubmittedRecipe.model_validate(body)


@pytest.mark.parametrize(
    "given",
    ["SGD", {"name": "SGD"}, {"type": "SGD"}],
)
def test_an_optimizer_is_named_in_three_ways(given: object) -> None:
    optimizer = _parse(optimizer=given).optimizer
    assert optimizer is not None
    assert (optimizer.name, optimizer.arguments()) == ("SGD", {})


def test_arguments_are_all_but_the_name() -> None:
    optimizer = _parse(optimizer={"type": "SGD", "lr": 0.1, "arguments": 1}).optimizer
    assert optimizer is not None
    assert optimizer.arguments() == {"lr": 0.1, "arguments": 1}
    unnamed = _parse(optimizer={"name": None, "lr": 0.1}).optimizer
    assert unnamed is not None
    assert (unnamed.name, unnamed.arguments()) == (None, {"lr": 0.1})


@pytest.mark.parametrize("given", ["MSELoss", {"name": "MSELoss"}, {"type": "MSELoss"}])
def test_so_is_a_loss(given: object) -> None:
    loss = _parse(loss=given).loss
    assert loss is not None
    assert (loss.name, loss.arguments()) == ("MSELoss", {})


@pytest.mark.parametrize(
    ("model", "known"),
    [
        (SubmittedOptimizer, arguments.OPTIMIZERS),
        (SubmittedScheduler, arguments.SCHEDULERS),
        (SubmittedLoss, arguments.LOSSES),
    ],
)
def test_every_argument_is_described(model: Any, known: Any) -> None:
    schema = model.model_json_schema()
    everything = {name for kind in known.values() for name in kind.model_fields}
    assert schema["properties"].keys() == everything | {"name"}
    assert schema["properties"]["name"]["enum"] == [*known, None]
    assert "$ref" not in str(schema)


def test_an_argument_of_two_forms_is_described_in_both() -> None:
    described = SubmittedOptimizer.model_json_schema()["properties"]["eps"]["anyOf"]
    assert {way["type"] for way in described} == {"number", "array"}
