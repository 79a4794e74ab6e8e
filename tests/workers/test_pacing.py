"""Fewer threads where others have the cores; the machine is played."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from models_store.fields import Computed, Recipe
from workers import pacing
from workers.batches import Batch
from workers.group import Group
from workers.pacing import Pace
from workers.steps import Run

MakeRecipe = Callable[..., Recipe]
CPU = torch.device("cpu")


class Machine:
    """Of four cores, of which `free` are free: threads without one hold the others up."""

    def __init__(self) -> None:
        self.free = 4.0
        self.threads = 4
        self.held_up = 0.5  # speed of threads that wait for each other
        self.pace = Pace(4, use=self.use)
        self.used: list[int] = []

    def use(self, threads: int) -> None:
        self.threads = threads

    def run(self, windows: int) -> None:
        for _ in range(windows):
            self.used.append(self.threads)
            cores = min(self.threads, self.free)
            speed = cores * (self.held_up if self.threads > self.free else 1)
            self.pace.tell(int(1000 * speed), 1.0, cores)


def test_alone_all_threads_compute() -> None:
    machine = Machine()
    machine.run(100)
    assert set(machine.used) == {4}


def test_beside_others_as_many_as_have_a_core() -> None:
    machine = Machine()
    machine.run(10)
    machine.free = 2.0
    machine.run(100)
    assert set(machine.used[10:]) == {4, 2}
    assert machine.used[20:].count(2) > 80
    machine.free = 4.0
    machine.run(80)
    assert machine.used[-1] == 4, "all again once they are alone"


def test_what_is_no_faster_is_tried_ever_more_seldom() -> None:
    machine = Machine()
    machine.free, machine.held_up = 2.0, 1.0
    machine.run(500)
    assert 1 < machine.used.count(2) < 15


def test_others_may_leave_not_even_one() -> None:
    machine = Machine()
    machine.free = 0.2
    machine.run(20)
    assert 1 in machine.used


def waiting(batch: Batch) -> float:
    """A step that computes nothing for a while."""
    time.sleep(0.002)
    return 0.5


def run(precision: Computed, **given: Any) -> Run:
    return Run(CPU, precision=precision, normalize=None, stopped=lambda: False, **given)


def test_a_step_that_has_no_cores_is_tried_by_one_thread(
    recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "_WINDOW_SECONDS", 0.004)
    seen = set()
    with pacing.all_afterwards():
        torch.set_num_threads(2)
        step = pacing.paced(waiting, recipe(), run("bf16"))
        for _ in range(60):
            assert step(Batch(torch.arange(4))) == 0.5
            seen.add(torch.get_num_threads())
    assert seen == {1, 2}


@pytest.mark.parametrize(
    ("asked", "precision", "devices"),
    [({}, "fp32", 1), ({"deterministic": True}, "bf16", 1), ({}, "bf16", 2)],
)
def test_what_is_to_be_the_same_each_time_has_its_threads_which_sleep_beside_others(
    recipe: MakeRecipe,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, Any],
    precision: Computed,
    devices: int,
) -> None:
    monkeypatch.setattr(pacing, "_WINDOW_SECONDS", 0.004)
    told: list[bool] = []
    monkeypatch.setattr(pacing.spins, "sleep_at_once", told.append)
    with pacing.all_afterwards():
        torch.set_num_threads(2)
        given = run(precision, group=Group(0, devices))
        step = pacing.paced(waiting, recipe(**asked), given)
        for _ in range(60):
            assert step(Batch(torch.arange(4))) == 0.5
            assert torch.get_num_threads() == 2
    assert True in told
    assert told[-1] is False, "whoever computes next is alone until shown otherwise"


def test_one_thread_waits_for_nobody(recipe: MakeRecipe) -> None:
    with pacing.all_afterwards():
        torch.set_num_threads(1)
        assert pacing.paced(waiting, recipe(), run("bf16")) is waiting


def test_there_are_as_many_threads_afterwards_as_before() -> None:
    before = torch.get_num_threads()
    with contextlib.suppress(KeyError), pacing.all_afterwards():
        torch.set_num_threads(before + 1)
        raise KeyError
    assert torch.get_num_threads() == before
