"""A step that is tried out leaves no trace."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from models_store.recipe import Recipe
from workers import rehearsal, steps, training
from workers.batches import Batch
from workers.meter import Meter
from workers.steps import Prepared, Run, Step

MakeRecipe = Callable[..., Recipe]
CPU = torch.device("cpu")
RUN = Run(device=CPU, precision="fp32", normalize=None, stopped=lambda: False, classes=10)
OPTIMIZERS = [{"name": "SGD", "lr": 0.05, "momentum": 0.9, "nesterov": True}, {"name": "Adam"}]


def network() -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4 * 10 * 10, 10))


def step(recipe: Recipe) -> Step:
    """Noise of the training's own chance, which dropout's is added to."""
    begun = training.begin(network(), recipe, RUN, steps=20)

    def make(index: torch.Tensor) -> Prepared:
        inputs = torch.rand(len(index), 1, 12, 12, generator=begun.chance)
        return Prepared(inputs, index % 10, index % 10)

    return Step(begun, RUN, make, Meter(RUN.loss, CPU))


def state(one: Step) -> dict[str, Any]:
    """All that the next step depends on."""
    begun = one.training
    moments = begun.optimizer.state_dict()["state"]
    tensors = {f"{at}.{name}": value for at, own in moments.items() for name, value in own.items()}
    tensors |= begun.network.state_dict() | begun.random_states()
    return {name: value.clone() for name, value in tensors.items()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda one: str(one["name"]))
@pytest.mark.parametrize("after", [0, 3])
def test_a_training_goes_on_as_if_nothing_had_been_tried(
    recipe: MakeRecipe, optimizer: dict[str, Any], after: int
) -> None:
    tried, other = (step(recipe(optimizer=optimizer)) for _ in range(2))
    for one in (tried, other):
        torch.manual_seed(1)  # of dropout
        for _ in range(after):
            one(Batch(torch.arange(8)))
    before = state(tried)
    places = [value.data_ptr() for value in tried.training.network.state_dict().values()]

    with rehearsal.unchanged(tried.training):
        rehearsal.rehearse(tried, torch.arange(16), moves=True)
        assert any(not torch.equal(state(tried)[name], value) for name, value in before.items())

    found = state(tried)
    assert all(torch.equal(found[name], value) for name, value in before.items())
    assert all(not found[name].any() for name in found.keys() - before.keys())
    assert [v.data_ptr() for v in tried.training.network.state_dict().values()] == places
    assert tried.meter.images == 0
    for one in (tried, other):
        torch.manual_seed(2)
        one(Batch(torch.arange(8)))
    torch.manual_seed(3)
    assert all(torch.equal(value, state(other)[name]) for name, value in state(tried).items())


def test_without_moves_the_optimizer_makes_no_step(recipe: MakeRecipe) -> None:
    tried = step(recipe(optimizer="Adam"))

    with rehearsal.unchanged(tried.training):
        rehearsal.rehearse(tried, torch.arange(16), moves=False)

    assert not tried.training.optimizer.state
    assert all(one.grad is None for one in tried.training.network.parameters())


def test_a_rehearsal_finds_out_that_a_batch_does_not_fit(recipe: MakeRecipe) -> None:
    tried = step(recipe())
    make = tried.make

    def tight(index: torch.Tensor) -> Prepared:
        if len(index) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return make(index)

    tried = steps.Step(tried.training, RUN, tight, tried.meter)
    with rehearsal.unchanged(tried.training):
        rehearsal.rehearse(tried, torch.arange(16), moves=False)

    assert tried.training.in_parts
