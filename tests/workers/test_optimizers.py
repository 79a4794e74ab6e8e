from typing import Any

import pytest
import torch
from torch import nn

from models_store import arguments
from problems import Problem
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
        ("Adagrad", {"lr_decay": 0.1}),
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


def test_the_words_of_the_recipe_stay_as_they_are() -> None:
    asked = arguments.complete("optimizer", "Adam", {})
    before = dict(asked)

    optimizers.build(asked, model().parameters())

    assert asked == before


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("Adadelta", {"rho": 0.8}),
        ("Adafactor", {"eps": [1e-8, 1e-2]}),
        ("Adamax", {"betas": [0.8, 0.9]}),
        ("ASGD", {"t0": 2.0}),
        ("NAdam", {"decoupled_weight_decay": True, "weight_decay": 0.1}),
        ("RAdam", {}),
        ("RMSprop", {"momentum": 0.9, "centered": True}),
        ("Rprop", {"etas": [0.4, 1.3], "step_sizes": [1e-5, 1.0]}),
    ],
)
def test_those_that_are_never_fused_step_to_the_bit(name: str, given: dict[str, Any]) -> None:
    ours, theirs = model(), model()
    by_hand = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    optimizer = optimizers.build(arguments.complete("optimizer", name, given), ours.parameters())
    own = getattr(torch.optim, name)(theirs.parameters(), **by_hand)

    for number in range(5):
        step(ours, optimizer, number)
        step(theirs, own, number)

    assert type(optimizer) is type(own)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)


def muon(**given: Any) -> dict[str, Any]:
    return arguments.complete("optimizer", "Muon", given)


def test_muon_trains_matrices_and_adamw_the_rest() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 3, 2), nn.Flatten(), nn.Linear(3, 3)
            )

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.body(inputs)

    torch.manual_seed(0)
    ours = Both()
    torch.manual_seed(0)
    theirs = Both()
    asked = muon(lr=0.02, adamw={"lr": 0.003, "fused": False})
    optimizer = optimizers.build(asked, ours.parameters())
    flat = [one for one in theirs.parameters() if one.ndim == 2]
    others = [one for one in theirs.parameters() if one.ndim != 2]
    apart = [torch.optim.Muon(flat, lr=0.02), torch.optim.AdamW(others, lr=0.003)]

    for number in range(5):
        step(ours, optimizer, number)
        inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(number))
        theirs.zero_grad()
        theirs(inputs).square().mean().backward()
        for each in apart:
            each.step()

    assert len(flat) == 1
    assert len(others) == 3
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_groups_with_rates_of_their_own_keep_them() -> None:
    network = model()
    weight, bias = network.parameters()
    groups = [{"params": [weight]}, {"params": [bias], "lr": 0.5}]

    plain = optimizers.build(arguments.complete("optimizer", "SGD", {"lr": 0.1}), groups)
    assert [group["lr"] for group in plain.param_groups] == [0.1, 0.5]

    # Ten times the usual rate of Muon is ten times that of AdamW.
    groups = [{"params": [weight]}, {"params": [bias], "lr": 0.2}]
    both = optimizers.build(muon(lr=0.02, adamw={"lr": 0.001}), groups)
    assert [group["lr"] for group in both.param_groups] == [0.02, pytest.approx(0.01)]
    assert [group["rule"] for group in both.param_groups] == ["Muon", "AdamW"]


def test_a_network_without_matrices_is_none_for_muon() -> None:
    with pytest.raises(Problem, match="weights of two dimensions") as raised:
        optimizers.build(muon(), nn.Conv2d(1, 3, 2).parameters())

    assert raised.value.errors[0]["loc"] == ["body", "optimizer", "name"]
    alone = optimizers.build(muon(), nn.Linear(4, 3, bias=False).parameters())
    assert [group["rule"] for group in alone.param_groups] == ["Muon"]
