from typing import Any

import pytest
import torch
from torch import nn

from models_store import arguments
from workers import optimizers


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def step(network: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(number))
    optimizer.zero_grad()
    network(inputs).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("SGD", {}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}),
        ("SGD", {"lr": 0.1, "momentum": 0.5, "dampening": 0.3, "maximize": True}),
        ("Adam", {}),
        ("Adam", {"lr": 0.01, "betas": [0.8, 0.9], "eps": 1e-6, "amsgrad": True}),
        ("Adam", {"weight_decay": 0.1, "decoupled_weight_decay": True, "foreach": False}),
        ("AdamW", {}),
        ("AdamW", {"lr": 0.01, "weight_decay": 0.3, "betas": [0.5, 0.6], "fused": True}),
    ],
)
def test_steps_are_pytorchs_own(name: str, given: dict[str, Any]) -> None:
    ours, theirs = model(), model()
    by_hand = {**given, "betas": tuple(given["betas"])} if "betas" in given else given
    optimizer = optimizers.build(arguments.complete("optimizer", name, given), ours.parameters())
    own = getattr(torch.optim, name)(theirs.parameters(), **by_hand)

    for number in range(5):
        step(ours, optimizer, number)
        step(theirs, own, number)

    assert type(optimizer) is type(own)
    assert bool(optimizer.defaults["fused"]) == ("foreach" not in given)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7)  # fused rounds differently


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
@pytest.mark.parametrize(
    "given",
    [
        {"max_lr": 0.2},
        {"max_lr": 0.2, "pct_start": 0.5, "anneal_strategy": "linear", "three_phase": True},
        {"max_lr": 0.2, "cycle_momentum": False, "div_factor": 10.0, "final_div_factor": 2.0},
    ],
)
def test_one_cycle_is_pytorchs_own(name: str, given: dict[str, Any]) -> None:
    def groups(scheduled: torch.optim.Optimizer, scheduler: Any) -> list[dict[str, Any]]:
        shown = []
        for _ in range(10):
            scheduled.step()
            group = scheduled.param_groups[0]
            shown.append({key: group.get(key) for key in ("lr", "momentum", "betas")})
            scheduler.step()
        return shown

    asked = arguments.complete("optimizer", name, {})
    optimizer = optimizers.build(asked, model().parameters())
    schedule = arguments.complete("scheduler", "OneCycleLR", given)
    scheduler = optimizers.schedule(schedule, optimizer, steps=10)
    own = getattr(torch.optim, name)(model().parameters(), lr=0.001)
    theirs = torch.optim.lr_scheduler.OneCycleLR(own, total_steps=10, **given)

    assert scheduler is not None
    assert groups(optimizer, scheduler) == groups(own, theirs)


def test_a_rise_of_exactly_one_step_is_no_division_by_zero() -> None:
    optimizer = torch.optim.SGD(model().parameters(), lr=0.1)
    asked = arguments.complete("scheduler", "OneCycleLR", {"max_lr": 0.2, "pct_start": 0.1})

    scheduler = optimizers.schedule(asked, optimizer, steps=10)

    assert scheduler is not None
    rates = []
    for _ in range(9):
        rates += scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()
    assert max(rates) == rates[1] > 0.19


def test_no_scheduler_asked_for_is_none() -> None:
    optimizer = torch.optim.SGD(model().parameters(), lr=0.1)

    assert optimizers.schedule(None, optimizer, steps=10) is None


def test_the_words_of_the_recipe_stay_as_they_are() -> None:
    asked = arguments.complete("optimizer", "Adam", {})
    before = dict(asked)

    optimizers.build(asked, model().parameters())

    assert asked == before
