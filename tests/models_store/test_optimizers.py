"""The models of optimizers held against torch.optim."""

import inspect
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models_store import arguments
from models_store.optimizers import OPTIMIZERS, UNFIT
from problems import Problem


def _torchs() -> list[str]:
    """All that torch.optim has."""
    return [
        name
        for name, kind in inspect.getmembers(torch.optim, inspect.isclass)
        if issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
    ]


def test_none_of_torch_optim_is_missing() -> None:
    assert sorted(_torchs()) == sorted([*OPTIMIZERS, *UNFIT])


@pytest.mark.parametrize("name", UNFIT)
def test_what_does_not_fit_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(Problem) as caught:
        arguments.complete("optimizer", name.lower(), {})
    assert caught.value.code == "optimizer_unknown"
    assert caught.value.detail == f"danlu does not train with {name}: {UNFIT[name]}."


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_names_and_defaults_are_pytorchs(name: str) -> None:
    known = inspect.signature(getattr(torch.optim, name)).parameters
    ours = OPTIMIZERS[name].model_fields.keys() - {"adamw"}
    assert ours | arguments.FIXED.keys() >= known.keys() >= ours
    for field_name in ours:
        default = known[field_name].default
        expected = list(default) if isinstance(default, tuple) else default
        assert OPTIMIZERS[name].model_fields[field_name].default == expected, field_name


def test_muon_has_a_whole_adamw_beside_it() -> None:
    complete = arguments.complete("optimizer", "Muon", {"lr": 0.02, "adamw": {"lr": 0.003}})
    adamw = arguments.complete("optimizer", "AdamW", {"lr": 0.003})
    assert {"name": "AdamW", **complete["adamw"]} == adamw


@pytest.mark.parametrize(
    ("given", "loc"),
    [
        ({"adamw": {"momentum": 1}}, ["adamw", "momentum"]),
        ({"adamw": {"capturable": True}}, ["adamw", "capturable"]),
    ],
)
def test_what_is_wrong_inside_is_told_at_its_place(given: dict[str, Any], loc: list[str]) -> None:
    with pytest.raises(Problem) as caught:
        arguments.complete("optimizer", "Muon", given)
    assert caught.value.code == "unknown_field"
    assert caught.value.detail == f"Muon.adamw has no argument {loc[-1]!r} here."
    assert caught.value.errors[0]["loc"] == ["body", "optimizer", *loc]


numbers = st.sampled_from([-1, 0, 0.5, 1, 2]) | st.floats(-2, 2)
switches = st.booleans()
maybe = st.none() | switches
pairs = st.lists(numbers.map(float), min_size=2, max_size=2)
OF_A_KIND: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(["foreach", "fused"], maybe),
    **dict.fromkeys(
        ["maximize", "nesterov", "amsgrad", "centered", "decoupled_weight_decay"], switches
    ),
    **dict.fromkeys(["betas", "etas", "step_sizes"], pairs),
    "ns_coefficients": st.lists(numbers.map(float), min_size=3, max_size=3),
    "ns_steps": st.integers(0, 99),
    "adjust_lr_fn": st.sampled_from(["original", "match_rms_adamw", "spectral", None]),
}


def _arguments(name: str) -> st.SearchStrategy[dict[str, Any]]:
    fields = OPTIMIZERS[name].model_fields.keys() - {"adamw"}
    if name == "Adafactor":
        fields -= {"eps"}
    if name == "ASGD":
        fields -= {"alpha"}  # PyTorch 2.11 takes less than 0, newer ones do not
    optional = {field: OF_A_KIND.get(field, numbers) for field in sorted(fields)}
    return st.fixed_dictionaries({}, optional=optional)


@pytest.mark.parametrize("name", OPTIMIZERS)
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_refuses_exactly_the_finite_values_that_pytorch_refuses(
    name: str, data: st.DataObject
) -> None:
    given = data.draw(_arguments(name))
    weights = [torch.nn.Parameter(torch.ones(2, 2))]
    try:
        torchs = getattr(torch.optim, name)(weights, **given)
    except (ValueError, RuntimeError):
        with pytest.raises(Problem) as caught:
            arguments.complete("optimizer", name, given)
        assert caught.value.code == "invalid_request"
        return
    complete = arguments.complete("optimizer", name, given)
    assert complete.pop("name") == name
    complete.pop("adamw", None)
    for key, value in complete.items():
        kept = torchs.defaults[key]
        assert value == (list(kept) if isinstance(kept, tuple) else kept)


@pytest.mark.parametrize(
    ("given", "loc"),
    [
        ({"eps": [None, None]}, []),
        ({"eps": [0.1]}, ["eps"]),
        ({"eps": [-0.1, 0.1]}, ["eps", 0]),
        ({"beta2_decay": 0.1}, ["beta2_decay"]),
        ({"d": math.nan}, ["d"]),
    ],
)
def test_adafactor(given: dict[str, Any], loc: list[str | int]) -> None:
    with pytest.raises(Problem) as caught:
        arguments.complete("optimizer", "Adafactor", given)
    assert caught.value.errors[0]["loc"] == ["body", "optimizer", *loc]
    assert arguments.complete("optimizer", "Adafactor", {"eps": [None, 0]})["eps"] == [None, 0]
