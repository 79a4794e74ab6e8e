"""A child that waits on a ready device: whom it takes, and that it is never in the way.

First with threads in place of children, then real ones, on a CPU that is said to take time.
"""

import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import pytest
import torch
from sqlalchemy import Engine, event

from database import processes as process_rows
from database.jobs import State
from tests.workers.stage import Process, Stage, at_once, download, until_set
from workers import processes, standby, supervisor
from workers.pool import Need
from workers.task import Task

Until = Callable[..., Any]
Run = Callable[..., list[BaseException]]
NewWorker = Callable[..., Any]


@pytest.mark.parametrize(
    ("recipe", "need", "fits"),
    [
        ({}, Need(), True),
        (None, Need(), True),
        ({"deterministic": False, "device": "cuda", "devices": 1}, Need(), True),
        ({"deterministic": True}, Need(), False),  # cuBLAS has read its variable by then
        ({"device": "cpu"}, Need(), False),
        ({"devices": 2}, Need(2, 2), False),  # a fork cannot use what CUDA has begun
        (None, None, False),
    ],
)
def test_which_jobs_it_may_do(recipe: dict[str, Any] | None, need: Need | None, fits: bool) -> None:
    assert standby.suits(recipe, need) is fits


def test_it_pays_on_a_gpu_alone() -> None:
    assert [standby.pays(device) for device in ("cuda:0", "cpu", "mps")] == [True, False, False]


def waiting(stage: Stage) -> list[tuple[int, str | None]]:
    """Those that are said to have no job, and their devices."""
    with stage.sessions() as session:
        rows = process_rows.alive(session)
    return [(row.pid, row.device) for row in rows if row.role == "child" and row.job_id is None]


def test_the_next_job_goes_to_it_and_then_there_is_another(
    stage: Stage, run: Run, until: Until
) -> None:
    stage.devices = ["cuda:0"]
    run()
    [(first, device)] = until(lambda: waiting(stage))
    assert stage.ready.wait(60)
    over = threading.Event()
    job_id = stage.submit("train", until_set(over))
    until(lambda: stage.state(job_id) == State.starting)
    until(lambda: waiting(stage) == [])
    time.sleep(0.3)  # beside a job nothing waits
    assert len(stage.started) == 2  # the probe's, and it
    over.set()
    until(lambda: stage.state(job_id) == State.succeeded)

    [(second, _)] = until(lambda: waiting(stage))
    assert (first, device) == (stage.started[1].pid, "cuda:0")
    assert second == stage.started[2].pid
    assert not stage.started[1].killed.is_set()


@pytest.mark.parametrize("recipe", [{"deterministic": True}, {"device": "cpu"}])
def test_it_makes_room_for_a_job_that_it_may_not_do(
    stage: Stage, run: Run, until: Until, recipe: dict[str, Any]
) -> None:
    stage.devices = ["cuda:0"]
    run()
    [(pid, _)] = until(lambda: waiting(stage))
    job_id = stage.submit("train", at_once, recipe=recipe)
    until(lambda: stage.state(job_id) == State.succeeded)

    assert stage.started[1].killed.is_set()
    until(lambda: [one for one, _ in waiting(stage)] not in ([], [pid]))


def test_it_makes_room_for_a_job_of_several_devices_and_for_one_that_has_downloaded(
    stage: Stage, run: Run, until: Until
) -> None:
    stage.devices = ["cuda:0", "cuda:1"]
    downloaded, seen = threading.Event(), []

    def download(given: Task, channel: Connection) -> None:
        channel.send("give up")
        downloaded.wait()
        channel.send("take")
        seen.append(channel.recv())
        at_once(given, channel)

    job_id = stage.submit("two", download, devices=2)
    run()
    until(lambda: waiting(stage))  # nobody uses the devices meanwhile
    downloaded.set()
    until(lambda: stage.state(job_id) == State.succeeded)

    assert sorted(seen[0]) == ["cuda:0", "cuda:1"]
    assert stage.started[2].killed.is_set()


def test_one_that_is_not_ready_is_not_waited_for(stage: Stage, run: Run, until: Until) -> None:
    def never(device: str, host: str, channel: Connection) -> None:
        stage.started[1].killed.wait()

    stage.devices = ["cuda:0"]
    stage.waits = never
    run()
    until(lambda: waiting(stage))
    job_id = stage.submit("train", at_once)
    until(lambda: stage.state(job_id) == State.succeeded)

    assert stage.started[1].killed.is_set()
    assert stage.job(job_id).attempt == 1


def test_one_that_dies_just_when_its_job_comes_costs_no_attempt(
    stage: Stage, run: Run, until: Until
) -> None:
    def die(device: str, host: str, channel: Connection) -> None:
        channel.send("ready")
        stage.ready.set()
        channel.recv()

    stage.devices = ["cuda:0"]
    stage.waits = die
    run()
    until(lambda: waiting(stage))
    assert stage.ready.wait(60)
    stage.waits = None
    job_id = stage.submit("train", at_once)
    until(lambda: stage.state(job_id) == State.succeeded)

    assert (stage.job(job_id).attempt, stage.job(job_id).claim) == (1, 2)


def test_one_that_ends_by_itself_has_no_successor_before_the_next_job(
    stage: Stage, run: Run, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    def end(device: str, host: str, channel: Connection) -> None:
        pass

    stage.devices = ["cuda:0"]
    stage.waits = end
    errors = run()
    until(lambda: "what stood by on cuda:0 ended, exit code 1" in caplog.text)
    until(lambda: waiting(stage) == [])
    time.sleep(0.3)
    assert (len(stage.started), waiting(stage)) == (2, [])

    job_id = stage.submit("train", at_once)
    until(lambda: stage.state(job_id) == State.succeeded)
    until(lambda: len(stage.started) == 4)
    assert errors == []


def test_a_process_that_cannot_start_is_done_without(
    stage: Stage, run: Run, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(process: Process) -> None:
        if len(stage.started) == 2:
            raise BlockingIOError("no more processes")
        process._thread.start()

    monkeypatch.setattr(Process, "start", start)
    stage.devices = ["cuda:0"]
    errors = run()
    until(lambda: len(stage.started) == 2)
    job_id = stage.submit("train", at_once)
    until(lambda: stage.state(job_id) == State.succeeded)
    assert errors == []


def refuse_to_forget(engine: Engine) -> threading.Event:
    """The next row of a process that has ended cannot be deleted; set once that has been."""
    refused = threading.Event()

    @event.listens_for(engine, "before_cursor_execute")
    def _(connection: object, cursor: object, asked: str, *_: object) -> None:
        if asked.startswith("DELETE FROM processes WHERE processes.host") and not refused.is_set():
            refused.set()
            raise sqlite3.OperationalError("database or disk is full")

    return refused


def test_a_row_that_cannot_be_forgotten_costs_no_job_and_no_device(
    stage: Stage, run: Run, until: Until, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    stage.devices = ["cuda:0"]
    run()
    [(pid, _)] = until(lambda: waiting(stage))
    refused = refuse_to_forget(engine)
    recipe = {"deterministic": True}  # so that it makes room
    job_id, late = (stage.submit("train", at_once, recipe=recipe) for _ in range(2))
    until(lambda: stage.state(late) == State.succeeded, seconds=10)

    assert refused.is_set()
    assert (stage.job(job_id).attempt, stage.job(job_id).claim) == (1, 1)
    assert f"process {pid} is still said to be there" in caplog.text


def test_nor_one_that_has_downloaded(stage: Stage, run: Run, until: Until, engine: Engine) -> None:
    stage.devices = ["cuda:0"]
    downloaded, devices = threading.Event(), []
    job_id = stage.submit("train", download(downloaded, threading.Event(), devices))
    run()
    until(lambda: waiting(stage))  # nobody uses the device meanwhile
    refused = refuse_to_forget(engine)
    downloaded.set()
    until(lambda: devices, seconds=10)

    assert refused.is_set()
    until(lambda: stage.state(job_id) == State.succeeded)


def test_it_ends_with_a_home_that_is_gone(
    stage: Stage, run: Run, until: Until, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.05)
    stage.devices = ["cuda:0"]
    errors = run()
    until(lambda: waiting(stage))
    (tmp_path / "danlu.sqlite3").rename(tmp_path / "moved.sqlite3")

    until(lambda: errors)
    assert stage.started[1].killed.is_set()


# As `python -m workers`, but that a CPU is said to take time to be made ready.
PROGRAM = """
import sys
from workers import __main__, standby

standby.pays = lambda device: True
sys.exit(__main__.main())
"""


def standing_by(worker: Any) -> int | None:
    with worker.sessions() as session:
        rows = process_rows.alive(session)
    return next((row.pid for row in rows if row.role == "child" and row.job_id is None), None)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are seen in /proc")
@pytest.mark.skipif(torch.cuda.is_available(), reason="test_the_first_step_on_a_gpu says it")
def test_real_ones_do_jobs_die_and_end_with_their_worker(
    new_worker: NewWorker, until: Until
) -> None:
    worker = new_worker()
    worker.start(program=PROGRAM)
    until(lambda: "cpu is ready, for whatever comes next" in worker.log(), seconds=90)
    first = standing_by(worker)
    assert first is not None
    assert os.getsid(first) == first

    job_id = worker.submit(epochs=100_000)
    until(lambda: worker.job(job_id).state == State.running)
    assert worker.job(job_id).worker_pid == first
    worker.cancel(job_id)
    until(lambda: worker.job(job_id).state == State.cancelled)
    assert not processes.is_running(first)

    second = until(lambda: standing_by(worker))
    os.kill(second, signal.SIGKILL)
    job_id = worker.submit(epochs=1)
    until(lambda: worker.job(job_id).state == State.succeeded)
    assert worker.job(job_id).attempt == 1

    until(lambda: standing_by(worker) not in (None, second))
    worker.process.kill()  # as nothing can prepare for
    worker.process.wait()
    until(lambda: not worker.pids())


def first_step(worker: Any, job_id: str) -> float | None:
    """When it had ended, by the file for TensorBoard; None: not yet."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    for file in (worker.home / "runs" / job_id).glob("events.out.tfevents*"):
        for said in EventFileLoader(str(file)).Load():
            if any(value.tag == "steps/loss" for value in said.summary.value):
                return float(said.wall_time)
    return None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_the_first_step_on_a_gpu(new_worker: NewWorker, until: Until) -> None:
    """From the row of a job to the end of its first step, on a worker with nothing to do; the
    second job, since the first one decodes its images.
    """
    worker = new_worker()
    worker.start()
    for number in (1, 2):
        until(lambda number=number: worker.log().count("is ready, for") == number, seconds=90)
        waits = standing_by(worker)
        job_id, began = worker.submit(epochs=100_000), time.time()
        ended = until(lambda job_id=job_id: first_step(worker, job_id))
        assert worker.job(job_id).worker_pid == waits
        worker.cancel(job_id)
        until(lambda job_id=job_id: worker.job(job_id).state == State.cancelled)
    print(f"first step after {ended - began:.2f} s")  # noqa: T201 - to be read with pytest -s
    assert ended - began < 0.6  # twice what is promised: others may use the cores
