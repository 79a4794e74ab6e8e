"""When a run is over before its epochs are."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from models_store.recipe import Recipe
from workers.limits import Limits

MakeRecipe = Callable[..., Recipe]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def epochs_until_the_end(limits: Limits, values: list[float], metric: str = "val_loss") -> int:
    for number, value in enumerate(values, start=1):
        other = "val_accuracy" if metric == "val_loss" else "val_loss"
        limits.judge({metric: value, other: 0.5})
        if limits.ended:
            return number
    return 0


@pytest.mark.parametrize(
    ("stopping", "values", "ends"),
    [
        ({"patience": 2}, [3, 2, 1, 0.5, 0.4], 0),
        ({"patience": 2}, [3, 2, 2, 2, 1], 4),
        ({"patience": 2}, [3, 2, 2.5, 1, 1.5, 1], 6),
        ({"patience": 1}, [3, 3], 2),
        ({"patience": 2, "min_delta": 0.5}, [3, 2.6, 2.5], 3),  # better by more than it
        ({"patience": 2, "min_delta": 0.5}, [3, 2.6, 2.4, 1], 0),
        ({"patience": 2, "metric": "val_accuracy"}, [0.5, 0.6, 0.6, 0.5], 4),
        ({"patience": 2}, [math.nan, math.nan, 1], 2),
        ({"patience": 2}, [math.nan, 1, math.nan, math.inf], 4),
    ],
)
def test_patience(
    recipe: MakeRecipe, stopping: dict[str, Any], values: list[float], ends: int
) -> None:
    limits = Limits(recipe(early_stopping=stopping))

    assert epochs_until_the_end(limits, values, stopping.get("metric", "val_loss")) == ends
    assert limits.ended == ("early_stopping" if ends else None)


def test_without_limits_nothing_ends(recipe: MakeRecipe) -> None:
    limits = Limits(recipe())
    limits.begin()

    assert epochs_until_the_end(limits, [1.0] * 50) == 0
    assert not limits.time_is_up()
    assert limits.left() == math.inf


def test_time_is_counted_over_all_attempts(recipe: MakeRecipe) -> None:
    clock = Clock()
    first = Limits(recipe(max_seconds=10), clock=clock)
    first.begin()
    clock.now += 6
    kept = first.state_dict()

    clock.now += 1000
    second = Limits(recipe(max_seconds=10), clock=clock)
    second.load_state_dict(kept)
    assert second.left() == 4
    second.begin()
    clock.now += 3
    assert not second.time_is_up()
    clock.now += 1
    assert second.time_is_up()
    assert second.left() == 0
    second.judge({"val_loss": 1.0, "val_accuracy": 1.0})
    assert second.ended == "max_seconds"


def test_who_goes_on_after_the_end_has_all_again(recipe: MakeRecipe) -> None:
    clock = Clock()
    limits = Limits(recipe(max_seconds=10, early_stopping={"patience": 2}), clock=clock)
    assert epochs_until_the_end(limits, [1, 1, 1]) == 3
    kept = limits.state_dict()

    other = Limits(recipe(max_seconds=10, early_stopping={"patience": 2}), clock=clock)
    other.load_state_dict(kept)
    assert other.ended == "early_stopping"
    other.renew()

    assert other.ended is None
    assert epochs_until_the_end(other, [2, 2, 2]) == 3
