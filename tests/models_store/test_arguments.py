"""Arguments by name: filled in, or refused at their place."""

import inspect
import math
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from models_store import arguments
from problems import Problem

TORCHS: dict[str, Any] = {
    **{name: getattr(torch.optim, name) for name in arguments.OPTIMIZERS},
    **{name: getattr(lr_scheduler, name) for name in arguments.SCHEDULERS},
    **{name: getattr(torch.nn, name) for name in arguments.LOSSES},
}
ALL = arguments.OPTIMIZERS | arguments.SCHEDULERS | arguments.LOSSES
PART = {
    **dict.fromkeys(arguments.OPTIMIZERS, "optimizer"),
    **dict.fromkeys(arguments.SCHEDULERS, "scheduler"),
    **dict.fromkeys(arguments.LOSSES, "loss"),
}


def _refusal(part: Any, name: str, given: dict[str, Any]) -> Problem:
    with pytest.raises(Problem) as caught:
        arguments.complete(part, name, given)
    return caught.value


def test_fixed_lists_exactly_what_pytorch_has_besides() -> None:
    besides = {
        argument
        for name, kind in TORCHS.items()
        for argument in inspect.signature(kind).parameters.keys() - ALL[name].model_fields
    }
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
        ("optimizer", "banana", "optimizer_unknown", "Known: Adadelta, Adafactor, Adagrad,"),
        ("optimizer", "OneCycleLR", "optimizer_unknown", "Known: Adadelta, Adafactor"),
        ("loss", "CrossEntropy", "loss_unknown", "Did you mean 'CrossEntropyLoss'?"),
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
