"""What a job asks of its followers, and when there are none. Real ones are in test_supervisor."""

from collections.abc import Callable
from pathlib import Path

import pytest

from models_store.recipe import Recipe
from problems import Problem
from workers import devices, following
from workers.ranks import Followers

MakeRecipe = Callable[..., Recipe]


def test_alone_nobody_is_summoned(recipe: MakeRecipe, tmp_path: Path) -> None:
    alone = Followers()

    following.check(recipe(), alone)
    group = following.summon(alone, recipe(), ("cpu",), version="v1", run=tmp_path)
    following.disband(alone, group)

    assert (group.rank, group.size) == (0, 1)
    assert list(tmp_path.iterdir()) == []


def test_more_devices_than_there_are_are_refused(recipe: MakeRecipe) -> None:
    cores = devices.cores()

    with pytest.raises(Problem) as raised:
        following.check(recipe(devices=cores + 1), Followers())

    assert raised.value.code == "device_unavailable"
    assert raised.value.detail == (
        f"The recipe wants {cores + 1} devices, and the worker has {cores}."
    )
    assert raised.value.hint == f"Give devices: {cores}, or fewer."
