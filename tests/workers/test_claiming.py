"""Which job is taken, and with which devices."""

import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import pytest

from database.jobs import State
from tests.workers.stage import Stage, at_once, succeed, until_set
from workers.task import Task

Until = Callable[..., Any]
Run = Callable[..., list[BaseException]]
CUDA = ["cuda:0", "cuda:1"]


def test_a_job_gets_all_of_its_devices_and_is_not_overtaken_while_it_waits(
    stage: Stage, run: Run, until: Until
) -> None:
    stage.devices = ["cuda:0", "cuda:1", "cuda:2"]
    over, seen = threading.Event(), []

    def look(given: Task, channel: Connection) -> None:
        seen.append((given.devices, stage.job(given.fence.job_id).device))
        succeed(given)

    first = stage.submit("first", until_set(over))
    three = stage.submit("three", look, devices=3)
    late = stage.submit("late", at_once)
    run()
    until(lambda: stage.state(first) == State.starting)
    time.sleep(0.3)  # two devices are free, and one job would do with one
    assert [stage.state(one) for one in (three, late)] == [State.queued, State.queued]

    over.set()
    until(lambda: stage.state(late) == State.succeeded)

    assert seen == [(("cuda:0", "cuda:1", "cuda:2"), "cuda:0,cuda:1,cuda:2")]
    assert stage.job(three).finished_at <= stage.job(late).finished_at


@pytest.mark.parametrize(
    ("devices", "each", "taken"), [(["cpu"], 2, ["cpu", "cpu"]), (CUDA, 1, CUDA)]
)
def test_as_many_jobs_run_at_once_as_devices_and_the_setting_allow(
    stage: Stage, run: Run, until: Until, devices: list[str], each: int, taken: list[str]
) -> None:
    stage.devices = devices
    over = threading.Event()
    all_of_them = [stage.submit("train", until_set(over)) for _ in range(3)]
    run(jobs_per_device=each)
    until(lambda: stage.state(all_of_them[1]) == State.starting)
    shown = [(stage.state(job_id), stage.job(job_id).device) for job_id in all_of_them]
    over.set()
    until(lambda: stage.state(all_of_them[2]) == State.succeeded)

    assert shown == [("starting", taken[0]), ("starting", taken[1]), ("queued", None)]


def test_imports_and_exports_need_no_device_and_wait_for_no_training(
    stage: Stage, run: Run, until: Until
) -> None:
    over, given = threading.Event(), {}

    def wait(task: Task, channel: Connection) -> None:
        given[task.kind] = task.device
        over.wait()
        succeed(task)

    trains = stage.submit("train", wait)
    waits = stage.submit("waits", at_once)
    moves = [stage.submit(name, wait, kind=name) for name in ("import", "export")]
    more = stage.submit("more", at_once, kind="import")
    run()

    # Each lane is full, and neither waits for the other.
    until(lambda: len(given) == 3)
    assert [stage.job(one).device for one in (trains, *moves)] == ["cpu", None, None]
    assert given == {"train": "cpu", "import": "cpu", "export": "cpu"}
    assert [stage.state(one) for one in (waits, more)] == [State.queued, State.queued]
    over.set()
    until(lambda: all(stage.state(one) == State.succeeded for one in (trains, waits, *moves, more)))
