"""What every process of a training begins with. What jobs make of it is in test_run_train."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from data_store.parts import DataSet, Part, Sums
from models_store.recipe import Recipe
from problems import Problem
from workers import losses, outset
from workers.losses import Loss
from workers.split import Split, split
from workers.steps import Run

MakeRecipe = Callable[..., Recipe]
CPU = torch.device("cpu")


@pytest.fixture
def data() -> DataSet:
    chance = np.random.default_rng(0)
    labels = np.arange(20, dtype=np.int64) % 4
    images = chance.integers(0, 256, (20, 12, 12, 1), dtype=np.uint8)
    borders, spreads = np.zeros(20, np.float32), np.zeros(20, np.float32)
    part = Part(images, labels, borders, spreads, Sums.of(images))
    return DataSet("shapes", "v1", tuple("abcd"), {"train": part, "test": part}, skipped=())


def run(recipe: Recipe, data: DataSet, parts: Split) -> Run:
    return outset.run(recipe, data, parts, CPU, stopped=lambda: False, warn=lambda *_: None)


def test_all_begin_with_the_same(recipe: MakeRecipe, data: DataSet) -> None:
    asked = recipe(normalize="auto", class_weights="balanced", architecture="lenet5", image_size=32)
    parts = split(data, asked, CPU)
    first, second = run(asked, data, parts), run(asked, data, parts)
    torch.manual_seed(7)

    networks = [
        outset.build(outset.plan(asked, data), asked.seed, one, parts.train).state_dict()
        for one in (first, second)
    ]

    assert first.normalize == second.normalize
    assert first.normalize is not None
    assert (first.precision, first.classes) == ("fp32", 4)
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])


def test_classes_are_weighed_on_the_device_wherever_the_images_are(
    recipe: MakeRecipe, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, device = recipe(class_weights="balanced"), torch.device("meta")
    built: list[torch.device] = []

    def build(_: object, __: object, labels: torch.Tensor, *, classes: int) -> Loss:
        built.append(labels.device)
        return Loss()

    monkeypatch.setattr(losses, "build", build)

    outset.run(
        asked, data, split(data, asked, CPU), device, stopped=lambda: False, warn=lambda *_: None
    )

    assert built == [device]


def test_steps_are_counted_for_the_images_that_are_there(recipe: MakeRecipe, data: DataSet) -> None:
    asked = recipe(batch_size=8, epochs=3)
    parts = split(data, asked, CPU)
    trained = -(-len(parts.train) // 8)

    assert outset.steps(parts, asked, torch.nn.Linear(1, 1)) == 3 * trained
    none_left = recipe(batch_size=32, data_loader={"drop_last": True})
    with pytest.raises(Problem, match="no batch of 32"):
        outset.steps(parts, none_left, torch.nn.Linear(1, 1))
