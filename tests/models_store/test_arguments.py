"""Optimizers and schedulers held against PyTorch's own."""

import inspect
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from models_store import arguments
from problems import Problem

PART = {"SGD": "optimizer", "Adam": "optimizer", "AdamW": "optimizer", "OneCycleLR": "scheduler"}
ALL = arguments.OPTIMIZERS | arguments.SCHEDULERS


def _signature(name: str) -> dict[str, inspect.Parameter]:
    torchs = getattr(torch.optim if PART[name] == "optimizer" else lr_scheduler, name)
    return dict(inspect.signature(torchs).parameters)


def _refusal(part: Any, name: str, given: dict[str, Any]) -> Problem:
    with pytest.raises(Problem) as caught:
        arguments.complete(part, name, given)
    return caught.value


def test_every_model_is_looked_at_here() -> None:
    assert list(PART) == list(ALL)


@pytest.mark.parametrize("name", ALL)
def test_names_and_defaults_are_pytorchs(name: str) -> None:
    known = _signature(name)
    for field_name, field in ALL[name].model_fields.items():
        default = known[field_name].default
        expected = list(default) if isinstance(default, tuple) else default
        if expected is inspect.Parameter.empty:
            assert field.is_required(), field_name
        else:
            assert field.default == expected, field_name


def test_fixed_lists_exactly_what_pytorch_has_besides() -> None:
    besides = {rest for name in ALL for rest in _signature(name).keys() - ALL[name].model_fields}
    assert besides == set(arguments.FIXED)


@pytest.mark.parametrize("name", ["SGD", "sgd", "S-G_D"])
def test_completes_with_every_default(name: str) -> None:
    assert arguments.complete("optimizer", name, {"lr": 1}) == {
        "name": "SGD",
        "lr": 1.0,
        "momentum": 0.0,
        "dampening": 0.0,
        "weight_decay": 0.0,
        "nesterov": False,
        "maximize": False,
        "foreach": None,
        "fused": None,
    }


@pytest.mark.parametrize(
    ("part", "name", "code", "hint"),
    [
        ("optimizer", "Adan", "optimizer_unknown", "Did you mean 'Adam'"),
        ("optimizer", "banana", "optimizer_unknown", "Known: SGD, Adam, AdamW."),
        ("optimizer", "OneCycleLR", "optimizer_unknown", "Known: SGD, Adam, AdamW."),
        ("scheduler", "OneCycle", "scheduler_unknown", "Did you mean 'OneCycleLR'?"),
    ],
)
def test_unknown_names(part: str, name: str, code: str, hint: str) -> None:
    problem = _refusal(part, name, {})
    assert problem.code == code
    assert problem.hint is not None
    assert problem.hint.startswith(hint)
    assert problem.errors == [{"loc": ["body", part, "name"], "msg": f"unknown {part}"}]


@pytest.mark.parametrize(
    ("name", "given", "hint"),
    [
        ("SGD", {"momentun": 0.9}, "Did you mean 'momentum'?"),
        ("SGD", {"zzz": 1}, "Known: lr, weight_decay, maximize, foreach, fused, momentum"),
        ("Adam", {"differentiable": True}, "Leave it out: danlu never differentiates"),
        ("Adam", {"params": []}, "Leave it out: the network's parameters are trained"),
        ("OneCycleLR", {"max_lr": 1.0, "total_steps": 9}, "Leave it out: danlu counts the steps"),
    ],
)
def test_unknown_arguments_are_refused_by_name(name: str, given: dict[str, Any], hint: str) -> None:
    problem = _refusal(PART[name], name, given)
    wrong = list(given)[-1]
    assert problem.code == "unknown_field"
    assert problem.detail == f"{name} has no argument {wrong!r} here."
    assert problem.hint is not None
    assert problem.hint.startswith(hint)
    assert problem.errors == [
        {"loc": ["body", PART[name], wrong], "msg": f"{name} takes no {wrong!r}"}
    ]


@pytest.mark.parametrize(
    ("name", "given", "loc"),
    [
        ("SGD", {"lr": -0.1}, ["lr"]),
        ("SGD", {"lr": math.nan}, ["lr"]),
        ("SGD", {"lr": math.inf}, ["lr"]),
        ("SGD", {"lr": 10**400}, ["lr"]),
        ("SGD", {"lr": None}, ["lr"]),
        ("SGD", {"lr": "0.1"}, ["lr"]),
        ("SGD", {"lr": True}, ["lr"]),
        ("SGD", {"dampening": math.nan}, ["dampening"]),
        ("SGD", {"weight_decay": -1}, ["weight_decay"]),
        ("SGD", {"nesterov": 1}, ["nesterov"]),
        ("SGD", {"nesterov": True}, []),
        ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, []),
        ("SGD", {"foreach": True, "fused": True}, []),
        ("Adam", {"betas": [0.9]}, ["betas"]),
        ("Adam", {"betas": [0.9, 1.0]}, ["betas", 1]),
        ("Adam", {"betas": 0.9}, ["betas"]),
        ("AdamW", {"eps": -1e-8}, ["eps"]),
        ("OneCycleLR", {}, ["max_lr"]),
        ("OneCycleLR", {"max_lr": -1.0}, ["max_lr"]),
        ("OneCycleLR", {"max_lr": 1.0, "pct_start": 1.0}, ["pct_start"]),
        ("OneCycleLR", {"max_lr": 1.0, "pct_start": math.nan}, ["pct_start"]),
        ("OneCycleLR", {"max_lr": 1.0, "anneal_strategy": "sine"}, ["anneal_strategy"]),
        ("OneCycleLR", {"max_lr": 1.0, "div_factor": 0}, ["div_factor"]),
        ("OneCycleLR", {"max_lr": 1.0, "final_div_factor": math.inf}, ["final_div_factor"]),
    ],
)
def test_wrong_values_are_refused_with_their_place(
    name: str, given: dict[str, Any], loc: list[str | int]
) -> None:
    problem = _refusal(PART[name], name, given)
    assert problem.code == "invalid_request"
    assert problem.hint == "See errors for each wrong field."
    assert problem.errors[0]["loc"] == ["body", PART[name], *loc]
    place = ".".join(map(str, [PART[name], *loc]))
    assert problem.detail == f"{place}: {problem.errors[0]['msg']}"
    assert not problem.errors[0]["msg"].startswith("Value error")


def test_all_wrong_fields_are_listed_and_an_unknown_one_decides() -> None:
    problem = _refusal("optimizer", "SGD", {"lr": -1, "momentum": -1, "nope": 1})
    assert problem.code == "unknown_field"
    assert [error["loc"][-1] for error in problem.errors] == ["lr", "momentum", "nope"]


numbers = st.sampled_from([-1, 0, 0.5, 1, 2]) | st.floats(-2, 2)
switches = st.booleans()
maybe = st.none() | switches
betas = st.lists(numbers.map(float), min_size=2, max_size=2)
adam = {"lr": numbers, "betas": betas, "eps": numbers, "weight_decay": numbers}
ways = {"amsgrad": switches, "maximize": switches, "foreach": maybe, "fused": maybe}
GIVEN: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "SGD": {
        **dict.fromkeys(["lr", "momentum", "dampening", "weight_decay"], numbers),
        **{"nesterov": switches, "maximize": switches, "foreach": maybe, "fused": maybe},
    },
    "Adam": {**adam, **ways, "decoupled_weight_decay": switches},
    "AdamW": {**adam, **ways},
}


@pytest.mark.parametrize("name", GIVEN)
@settings(max_examples=80, deadline=None)
@given(st.data())
def test_refuses_exactly_the_finite_values_that_pytorch_refuses(
    name: str, data: st.DataObject
) -> None:
    given = data.draw(st.fixed_dictionaries({}, optional=GIVEN[name]))
    weights = [torch.nn.Parameter(torch.ones(2))]
    try:
        torchs = getattr(torch.optim, name)(weights, **given)
    except (ValueError, RuntimeError):
        assert _refusal("optimizer", name, given).code == "invalid_request"
        return
    complete = arguments.complete("optimizer", name, given)
    assert complete.pop("name") == name
    for key, value in complete.items():
        kept = torchs.defaults[key]
        assert value == (list(kept) if isinstance(kept, tuple) else kept)


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries(
        {"max_lr": st.floats(0, 10)},
        optional={
            "pct_start": st.floats(0, 1, exclude_max=True),
            "anneal_strategy": st.sampled_from(["cos", "linear"]),
            "cycle_momentum": switches,
            "base_momentum": st.floats(0, 1, exclude_max=True),
            "max_momentum": st.floats(0, 1, exclude_max=True),
            "div_factor": st.floats(0.1, 100),
            "final_div_factor": st.floats(0.1, 1e6),
            "three_phase": switches,
        },
    )
)
def test_a_schedule_that_is_accepted_runs(given: dict[str, Any]) -> None:
    complete = arguments.complete("scheduler", "OneCycleLR", given)
    assert complete.pop("name") == "OneCycleLR"
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))])
    schedule = lr_scheduler.OneCycleLR(optimizer, total_steps=7, **complete)
    for _ in range(7):
        optimizer.step()
        schedule.step()
        assert math.isfinite(schedule.get_last_lr()[0])
