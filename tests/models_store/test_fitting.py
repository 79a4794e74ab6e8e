"""What differs between weights and a network, in words."""

import pytest
import torch

from models_store import fitting
from problems import Problem

OURS = {"a.weight": (3, 2), "a.bias": (3,), "b.weight": ()}


def test_what_fits_is_no_problem():
    fitting.check(dict(reversed(OURS.items())), OURS, of="file")
    assert fitting.shapes({"a": torch.zeros(2, 3)}) == {"a": (2, 3)}


def test_every_difference_is_named():
    given = {"a.weight": (3, 5), "c": (1,), "b.weight": ()}
    with pytest.raises(Problem) as caught:
        fitting.check(given, OURS, of="file")
    problem = caught.value
    assert problem.code == "weights_misfit"
    assert problem.detail == (
        "Of 3 weights: 1 missing (a.bias), 1 unexpected (c), 1 of another shape (a.weight)."
    )
    assert [(one["loc"], one["msg"]) for one in problem.errors] == [
        (["body", "file", "a.bias"], "missing; 3 in this network"),
        (["body", "file", "c"], "not of this network; 1"),
        (["body", "file", "a.weight"], "3x5 there, 3x2 in this network"),
    ]


def test_of_many_some_are_named():
    many = {f"k{n}": (n,) for n in range(1000)}
    with pytest.raises(Problem) as caught:
        fitting.check({}, many, of="init_from")
    assert len(caught.value.errors) == fitting.SHOWN + 1
    assert caught.value.errors[-1] == {
        "loc": ["body", "init_from"],
        "msg": f"and {1000 - fitting.SHOWN} more of this kind",
    }
