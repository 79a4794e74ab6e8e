"""The models of schedulers held against PyTorch's."""

import inspect
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from models_store import arguments
from models_store.schedulers import SCHEDULERS
from problems import Problem

OURS = {"interval", "warmup_epochs", "metric"}
# What danlu fills in where PyTorch insists.
FILLED_IN = {"T_max": None}


def test_what_the_recipe_promises_is_there() -> None:
    assert list(SCHEDULERS) == [
        *("StepLR", "MultiStepLR", "ExponentialLR", "CosineAnnealingLR", "OneCycleLR"),
        "ReduceLROnPlateau",
    ]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_names_and_defaults_are_pytorchs(name: str) -> None:
    known = inspect.signature(getattr(lr_scheduler, name)).parameters
    fields = SCHEDULERS[name].model_fields
    ours = fields.keys() - OURS
    assert ours | arguments.FIXED.keys() >= known.keys() >= ours
    for field_name in ours:
        default = known[field_name].default
        if field_name in FILLED_IN:
            assert fields[field_name].default == FILLED_IN[field_name]
        elif default is inspect.Parameter.empty:
            assert fields[field_name].is_required(), field_name
        else:
            assert fields[field_name].default == default, field_name


@pytest.mark.parametrize("name", SCHEDULERS)
def test_each_moves_after_what_pytorchs_manual_says(name: str) -> None:
    moves = SCHEDULERS[name].model_fields["interval"].default
    assert moves == ("step" if name == "OneCycleLR" else "epoch")


@pytest.mark.parametrize(
    ("name", "given", "loc"),
    [
        ("StepLR", {}, ["step_size"]),
        ("StepLR", {"step_size": 0}, ["step_size"]),
        ("StepLR", {"step_size": 1.5}, ["step_size"]),
        ("StepLR", {"step_size": 3, "interval": "batch"}, ["interval"]),
        ("StepLR", {"step_size": 3, "warmup_epochs": -1}, ["warmup_epochs"]),
        ("MultiStepLR", {"milestones": []}, ["milestones"]),
        ("MultiStepLR", {"milestones": [3, 2]}, ["milestones"]),
        ("MultiStepLR", {"milestones": [0]}, ["milestones", 0]),
        ("ExponentialLR", {"gamma": math.inf}, ["gamma"]),
        ("CosineAnnealingLR", {"T_max": 0}, ["T_max"]),
        ("OneCycleLR", {}, ["max_lr"]),
        ("ReduceLROnPlateau", {"factor": 1.0}, ["factor"]),
        ("ReduceLROnPlateau", {"interval": "step"}, ["interval"]),
        ("ReduceLROnPlateau", {"metric": "train_loss"}, ["metric"]),
        ("ReduceLROnPlateau", {"metric": "val_accuracy"}, []),  # it would fall as that rises
        ("ReduceLROnPlateau", {"mode": "max"}, []),
    ],
)
def test_wrong_values_are_refused_with_their_place(
    name: str, given: dict[str, Any], loc: list[str | int]
) -> None:
    with pytest.raises(Problem) as caught:
        arguments.complete("scheduler", name, given)
    assert caught.value.code == "invalid_request"
    assert caught.value.errors[0]["loc"] == ["body", "scheduler", *loc]


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries(
        {"max_lr": st.floats(0, 10)},
        optional={
            "pct_start": st.floats(0, 1, exclude_max=True),
            "anneal_strategy": st.sampled_from(["cos", "linear"]),
            "cycle_momentum": st.booleans(),
            "base_momentum": st.floats(0, 1, exclude_max=True),
            "max_momentum": st.floats(0, 1, exclude_max=True),
            "div_factor": st.floats(0.1, 100),
            "final_div_factor": st.floats(0.1, 1e6),
            "three_phase": st.booleans(),
        },
    )
)
def test_a_cycle_that_is_accepted_runs(given: dict[str, Any]) -> None:
    complete = arguments.complete("scheduler", "OneCycleLR", given)
    assert complete.pop("name") == "OneCycleLR"
    own = {key: value for key, value in complete.items() if key not in OURS}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))])
    schedule = lr_scheduler.OneCycleLR(optimizer, total_steps=7, **own)
    for _ in range(7):
        optimizer.step()
        schedule.step()
        assert math.isfinite(schedule.get_last_lr()[0])
