"""The schedule of a run held against PyTorch's own schedulers."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from models_store import arguments
from workers.schedules import Schedule

EPOCHS, UPDATES = 6, 4
SOME: dict[str, dict[str, Any]] = {
    "StepLR": {"step_size": 2, "gamma": 0.5},
    "MultiStepLR": {"milestones": [1, 3, 3], "gamma": 0.5},
    "ExponentialLR": {"gamma": 0.9},
    "CosineAnnealingLR": {"T_max": 4, "eta_min": 0.01},
    "OneCycleLR": {"max_lr": 0.5},
}


def optimizer(*, name: str = "SGD", lr: float = 0.1) -> torch.optim.Optimizer:
    weights = [torch.nn.Parameter(torch.ones(2))]
    more: dict[str, Any] = {"momentum": 0.9} if name == "SGD" else {}
    return getattr(torch.optim, name)(weights, lr=lr, **more)


def schedule(of: torch.optim.Optimizer, name: str, **given: Any) -> Schedule:
    asked = arguments.complete("scheduler", name, given)
    return Schedule(asked, of, epochs=EPOCHS, updates=UPDATES)


def shown(of: torch.optim.Optimizer) -> dict[str, Any]:
    return {key: of.param_groups[0].get(key) for key in ("lr", "momentum", "betas")}


def run(of: torch.optim.Optimizer, by: Schedule, *, losses: list[float] | None = None) -> list[Any]:
    """What the optimizer steps with in each update of the run."""
    seen = []
    for epoch in range(EPOCHS):
        for _ in range(UPDATES):
            seen.append(shown(of))
            of.step()
            by.after_update()
        by.after_epoch({"val_loss": (losses or [0.0] * EPOCHS)[epoch], "val_accuracy": math.nan})
    return seen


def torchs(of: torch.optim.Optimizer, by: Any, count: int, *, each: int = 1) -> list[Any]:
    seen = []
    for _ in range(count):
        for _ in range(each):
            seen.append(shown(of))
            of.step()
        by.step()
    return seen


@pytest.mark.parametrize("name", SOME)
def test_by_step_it_is_pytorchs_own(name: str) -> None:
    ours, own = optimizer(), optimizer()
    total = {"total_steps": EPOCHS * UPDATES} if name == "OneCycleLR" else {}

    seen = run(ours, schedule(ours, name, interval="step", **SOME[name]))

    theirs = getattr(lr_scheduler, name)(own, **SOME[name], **total)
    assert seen == torchs(own, theirs, EPOCHS * UPDATES)


@pytest.mark.parametrize("name", SOME)
def test_by_epoch_it_is_pytorchs_own(name: str) -> None:
    ours, own = optimizer(), optimizer()
    total = {"total_steps": EPOCHS} if name == "OneCycleLR" else {}

    seen = run(ours, schedule(ours, name, interval="epoch", **SOME[name]))

    theirs = getattr(lr_scheduler, name)(own, **SOME[name], **total)
    assert seen == torchs(own, theirs, EPOCHS, each=UPDATES)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
@pytest.mark.parametrize(
    "given",
    [
        {"pct_start": 0.5, "anneal_strategy": "linear", "three_phase": True},
        {"cycle_momentum": False, "div_factor": 10.0, "final_div_factor": 2.0},
        {},
    ],
)
def test_one_cycle_is_pytorchs_own(name: str, given: dict[str, Any]) -> None:
    ours, own = optimizer(name=name), optimizer(name=name)

    seen = run(ours, schedule(ours, "OneCycleLR", max_lr=0.2, **given))

    theirs = lr_scheduler.OneCycleLR(own, max_lr=0.2, total_steps=EPOCHS * UPDATES, **given)
    assert seen == torchs(own, theirs, EPOCHS * UPDATES)


@pytest.mark.parametrize(("interval", "length"), [("step", EPOCHS * UPDATES), ("epoch", EPOCHS)])
def test_a_cosine_of_no_length_has_that_of_the_run(interval: str, length: int) -> None:
    ours = optimizer()
    cosine = schedule(ours, "CosineAnnealingLR", interval=interval)

    rates = [each["lr"] for each in run(ours, cosine)]

    assert rates[-1] == pytest.approx(0.05 * (1 + math.cos(math.pi * (length - 1) / length)))
    assert ours.param_groups[0]["lr"] == pytest.approx(0)


def test_a_plateau_is_looked_for_in_the_validation_loss() -> None:
    ours, own = optimizer(), optimizer()
    losses = [3.0, 2.0, 2.0, 2.0, math.nan, 1.0]

    seen = run(ours, schedule(ours, "ReduceLROnPlateau", patience=1, factor=0.5), losses=losses)

    theirs = lr_scheduler.ReduceLROnPlateau(own, patience=1, factor=0.5)
    rates = []
    for loss in losses:
        rates += [own.param_groups[0]["lr"]] * UPDATES
        theirs.step(loss)
    assert [each["lr"] for each in seen] == rates
    assert len(set(rates)) == 2


@pytest.mark.parametrize("name", SOME)
def test_a_warm_up_rises_in_a_line_to_where_the_scheduler_begins(name: str) -> None:
    """As PyTorch's LinearLR in front of the same scheduler."""
    ours, own = optimizer(), optimizer()
    total = {"total_steps": EPOCHS * UPDATES - 6} if name == "OneCycleLR" else {}

    seen = [
        each["lr"]
        for each in run(
            ours, schedule(ours, name, interval="step", warmup_epochs=1.5, **SOME[name])
        )
    ]

    theirs = getattr(lr_scheduler, name)(own, **SOME[name], **total)
    after = [each["lr"] for each in torchs(own, theirs, EPOCHS * UPDATES - 6)]
    rising = optimizer(lr=after[0])
    linear = lr_scheduler.LinearLR(rising, start_factor=1 / 7, total_iters=6)
    before = [each["lr"] for each in torchs(rising, linear, 6)]
    assert seen[6:] == after
    assert seen[:6] == pytest.approx(before)


@pytest.mark.parametrize(("warmup", "waited"), [(0.5, 0), (1, 1), (1.5, 1), (2, 2)])
def test_epochs_that_end_within_the_warm_up_do_not_count(warmup: float, waited: int) -> None:
    ours = optimizer()

    rates = [
        each["lr"]
        for each in run(ours, schedule(ours, "MultiStepLR", milestones=[2], warmup_epochs=warmup))
    ]

    assert rates.index(pytest.approx(0.01)) == (2 + waited) * UPDATES
    assert rates[(2 + waited) * UPDATES - 1] == 0.1


def _advanced(of: torch.optim.Optimizer, by: Schedule, words: dict[str, Any]) -> None:
    by.advance(3)


def _loaded(of: torch.optim.Optimizer, by: Schedule, words: dict[str, Any]) -> None:
    """From where another run stood after three epochs."""
    whole = optimizer()
    other = Schedule(words, whole, epochs=EPOCHS, updates=UPDATES)
    for _ in range(3):
        for _ in range(UPDATES):
            whole.step()
            other.after_update()
        other.after_epoch({"val_loss": 0.0, "val_accuracy": 0.0})
    of.load_state_dict(whole.state_dict())
    by.load_state_dict(other.state_dict(), updates=3 * UPDATES)


@pytest.mark.parametrize("arrive", [_advanced, _loaded])
@pytest.mark.parametrize("warmup", [0, 0.75, 4])
@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("name", SOME)
def test_it_goes_on_where_it_was(
    name: str,
    interval: str,
    warmup: float,
    arrive: Callable[[torch.optim.Optimizer, Schedule, dict[str, Any]], None],
) -> None:
    words = arguments.complete(
        "scheduler", name, {"interval": interval, "warmup_epochs": warmup, **SOME[name]}
    )
    whole, part = optimizer(), optimizer()
    expected = run(whole, Schedule(words, whole, epochs=EPOCHS, updates=UPDATES))
    resumed = Schedule(words, part, epochs=EPOCHS, updates=UPDATES)

    arrive(part, resumed, words)

    seen = []
    for _ in range(3, EPOCHS):
        for _ in range(UPDATES):
            seen.append(shown(part))
            part.step()
            resumed.after_update()
        resumed.after_epoch({"val_loss": 0.0, "val_accuracy": 0.0})
    assert seen == expected[3 * UPDATES :]


def test_the_state_of_before_there_were_other_schedulers_is_taken() -> None:
    """It was all that PyTorch's scheduler has."""
    ours, own = optimizer(), optimizer()
    theirs = lr_scheduler.OneCycleLR(own, max_lr=0.2, total_steps=EPOCHS * UPDATES)
    torchs(own, theirs, 9)
    taken = schedule(ours, "OneCycleLR", max_lr=0.2)

    ours.load_state_dict(own.state_dict())
    taken.load_state_dict(theirs.state_dict(), updates=9)

    assert taken.updates == 9
    for _ in range(5):
        assert shown(ours) == shown(own)
        for each in (ours, own):
            each.step()
        taken.after_update()
        theirs.step()


def test_words_of_before_there_were_intervals_step_after_each_update() -> None:
    words = arguments.complete("scheduler", "OneCycleLR", {"max_lr": 0.2})
    old = {key: value for key, value in words.items() if key not in ("interval", "warmup_epochs")}
    one, other = optimizer(), optimizer()

    seen = run(one, Schedule(old, one, epochs=EPOCHS, updates=UPDATES))

    assert seen == run(other, Schedule(words, other, epochs=EPOCHS, updates=UPDATES))


@pytest.mark.parametrize(
    "given",
    [
        {"pct_start": 1 / 24},  # a rise of exactly one step
        {"pct_start": 25 / 48, "three_phase": True},  # a fall that ends with the run
    ],
)
def test_a_phase_of_no_length_is_no_division_by_zero(given: dict[str, Any]) -> None:
    ours = optimizer()

    rates = [each["lr"] for each in run(ours, schedule(ours, "OneCycleLR", max_lr=0.2, **given))]

    assert max(rates) > 0.19
    assert all(math.isfinite(rate) for rate in rates)


def test_groups_keep_their_distance() -> None:
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    groups = [{"params": [weights[0]], "lr": 0.01}, {"params": [weights[1]], "lr": 0.1}]
    of = torch.optim.SGD(groups, momentum=0.9)
    by = schedule(of, "OneCycleLR", max_lr=0.5, warmup_epochs=1)

    for _ in range(EPOCHS * UPDATES):
        assert of.param_groups[1]["lr"] == pytest.approx(10 * of.param_groups[0]["lr"])
        of.step()
        by.after_update()


@pytest.mark.parametrize(
    ("name", "given", "fills"),
    [
        ("OneCycleLR", {"max_lr": 0.1}, True),
        ("CosineAnnealingLR", {}, True),
        ("CosineAnnealingLR", {"T_max": 6}, False),
        ("ExponentialLR", {"gamma": 0.9}, False),
        ("ReduceLROnPlateau", {}, False),
    ],
)
def test_some_are_others_in_a_longer_run(name: str, given: dict[str, Any], fills: bool) -> None:
    assert schedule(optimizer(), name, **given).fills_the_run is fills
