"""What recipes by name promise; that each is a valid body is test_recipe's to say."""

from pathlib import Path

import pytest

from data_store import catalog
from models_store import recipe
from models_store.ready_made import READY_MADE, SUMMARIES
from models_store.recipe import SubmittedRecipe


def test_each_says_what_it_is_for() -> None:
    assert SUMMARIES.keys() == READY_MADE.keys()
    assert all(summary.endswith(".") for summary in SUMMARIES.values())


@pytest.mark.parametrize(
    ("name", "dataset"), [("cifar10-fast", "cifar10"), ("mnist-fast", "mnist")]
)
def test_those_for_speed_save_once_and_can_be_recorded(
    name: str, dataset: str, tmp_path: Path
) -> None:
    submitted = SubmittedRecipe.model_validate({"recipe": name})

    resolved = recipe.resolve(submitted, catalog.facts(dataset, tmp_path))

    assert resolved.checkpoints.every_epochs == resolved.epochs
    assert resolved.scheduler is not None
    # What else changes from step to step could not be recorded on a GPU.
    assert not resolved.scheduler["cycle_momentum"]
    assert resolved.optimizer["name"] == "SGD"


def test_another_network_may_be_named_in_place_of_its_layers(tmp_path: Path) -> None:
    body = {"recipe": "mnist-fast", "architecture": "mnist_net", "epochs": 1}

    facts = catalog.facts("mnist", tmp_path)
    resolved = recipe.resolve(SubmittedRecipe.model_validate(body), facts)

    assert (resolved.architecture, resolved.epochs) == ("mnist_net", 1)
