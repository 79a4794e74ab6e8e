"""Head and backbone apart: who is trained, at which rate, and that it survives a resume."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models_store import zoo
from models_store.recipe import Recipe
from workers import backbone, state, training
from workers.training import Run, Samples, Training

MakeRecipe = Callable[..., Recipe]
RUN = Run(device=torch.device("cpu"), precision="fp32", normalize=None, stopped=lambda: False)
NAME = "mobilenet_v3_small"


@pytest.fixture
def chosen(recipe: MakeRecipe) -> MakeRecipe:
    """Two epochs of two steps with a zoo network."""

    def chosen(**given: Any) -> Recipe:
        size = {"image_size": 32, "channels": 3, "normalize": None}
        optimizer = {"name": "SGD", "lr": 0.01, "momentum": 0.9}
        plain = {"architecture": NAME, "epochs": 2, "batch_size": 4, "optimizer": optimizer}
        return recipe(**size, **{**plain, **given})

    return chosen


def network() -> nn.Module:
    torch.manual_seed(0)
    return zoo.build(NAME, channels=3, size=(32, 32), classes=3)


def samples() -> Samples:
    chance = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (8, 32, 32, 3), generator=chance, dtype=torch.uint8)
    return Samples(pixels, torch.arange(8) % 3, torch.arange(8))


def begin(recipe: Recipe) -> Training:
    return training.begin(network(), recipe, RUN, steps=4)


def fit(begun: Training, recipe: Recipe, *, until: int = 2) -> dict[str, torch.Tensor]:
    for event in training.fit(begun, samples(), samples(), recipe=recipe, run=RUN):
        if isinstance(event, training.EpochEnd) and event.epoch == until:
            break
    return {key: value.clone() for key, value in begun.network.state_dict().items()}


def test_all_alike_unless_asked_for(chosen: MakeRecipe) -> None:
    made = network()
    assert [id(one) for one in backbone.parameters(made, chosen())] == [
        id(one) for one in made.parameters()
    ]


def test_a_frozen_backbone_stays_to_the_bit_with_its_statistics(chosen: MakeRecipe) -> None:
    recipe = chosen(pretrained=True, freeze_backbone=True)
    before = network().state_dict()

    after = fit(begin(recipe), recipe)

    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert changed == zoo.head(NAME)


def test_a_backbone_that_is_not_frozen_learns(chosen: MakeRecipe) -> None:
    before = network().state_dict()
    after = fit(begin(chosen()), chosen())
    still = {key for key, value in after.items() if torch.equal(value, before[key])}
    assert not {key for key in still if "weight" in key or "running" in key}


def test_the_heads_rate_is_its_own(chosen: MakeRecipe) -> None:
    plain, fast = begin(chosen()), begin(chosen(head_lr=0.5))
    rates = [group["lr"] for group in fast.optimizer.param_groups]
    counts = [len(group["params"]) for group in fast.optimizer.param_groups]
    assert rates == [0.01, 0.5]
    assert counts == [len(list(plain.network.parameters())) - 2, 2]
    only_head = begin(chosen(pretrained=True, freeze_backbone=True, head_lr=0.5)).optimizer
    assert [group["lr"] for group in only_head.param_groups] == [0.5]


def test_a_schedule_keeps_the_ratio(chosen: MakeRecipe) -> None:
    recipe = chosen(head_lr=0.1, scheduler={"name": "OneCycleLR", "max_lr": 0.2})
    begun = begin(recipe)
    seen = []
    for _ in training.fit(begun, samples(), samples(), recipe=recipe, run=RUN):
        low, high = (group["lr"] for group in begun.optimizer.param_groups)
        seen.append((low, high / low))
    assert max(low for low, _ in seen) > 0.1
    assert all(ratio == pytest.approx(10) for _, ratio in seen)


@pytest.mark.parametrize(
    "given",
    [
        {"head_lr": 0.1, "scheduler": {"name": "OneCycleLR", "max_lr": 0.2}},
        {"pretrained": True, "freeze_backbone": True},
        {"pretrained": True, "freeze_backbone": True, "head_lr": 0.1, "optimizer": "Adam"},
        {"head_lr": 0.1, "optimizer": "AdamW"},
    ],
)
def test_a_resumed_training_ends_as_an_uninterrupted_one(
    given: dict[str, Any], chosen: MakeRecipe, tmp_path: Path
) -> None:
    recipe = chosen(**given)
    whole = fit(begin(recipe), recipe)
    first = begin(recipe)
    fit(first, recipe, until=1)
    state.keep(tmp_path, first)
    torch.manual_seed(99)
    second = begin(recipe)

    assert state.restore(tmp_path, second)

    resumed = fit(second, recipe)
    assert second.epoch == 2
    assert all(torch.equal(value, whole[key]) for key, value in resumed.items())
