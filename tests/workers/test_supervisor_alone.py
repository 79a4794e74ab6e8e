"""The supervisor with threads in place of its children: what is rare or a race with real ones.

The real ones are in test_supervisor.py.
"""

import itertools
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from database import jobs
from database.jobs import State
from problems import Problem
from tests.workers.stage import (
    Process,
    Stage,
    at_once,
    download,
    reasons,
    start,
    succeed,
    until_set,
)
from workers import supervisor
from workers.supervisor import Supervisor
from workers.task import Task

Until = Callable[..., Any]
Run = Callable[..., list[BaseException]]


@pytest.mark.parametrize("how", ["gives its device up", "ends"])
def test_a_job_that_waits_for_a_device_goes_before_those_in_the_queue(
    stage: Stage, run: Run, until: Until, how: str
) -> None:
    downloaded, trained = threading.Event(), threading.Event()
    asked, over = threading.Event(), threading.Event()
    devices: list[tuple[str, ...]] = []

    def train(given: Task, channel: Connection) -> None:
        trained.wait()
        if how != "ends":
            channel.send("give up")
            over.wait()
        succeed(given)

    first = stage.submit("download", download(downloaded, asked, devices))
    second = stage.submit("train", train)
    third = stage.submit("late", at_once)
    run()
    until(lambda: stage.state(second) == State.starting)
    downloaded.set()
    asked.wait()
    assert devices == []

    trained.set()
    until(lambda: stage.state(third) == State.succeeded)

    over.set()
    assert devices == [("cpu",)]
    assert stage.job(first).finished_at < stage.job(third).finished_at


def test_a_job_that_needs_several_again_is_not_overtaken_by_one_that_needs_one(
    stage: Stage, run: Run, until: Until
) -> None:
    stage.devices = ["cuda:0", "cuda:1"]
    held, downloaded, asked = threading.Event(), threading.Event(), threading.Event()
    devices: list[tuple[str, ...]] = []

    two = stage.submit("two", download(downloaded, asked, devices), devices=2)
    holding = stage.submit("holding", until_set(held))
    run()
    until(lambda: stage.state(holding) == State.starting)
    downloaded.set()
    asked.wait()
    late = stage.submit("late", at_once)
    time.sleep(0.3)
    assert (devices, stage.state(late)) == ([], State.queued)

    held.set()
    until(lambda: stage.state(late) == State.succeeded)

    assert sorted(devices[0]) == ["cuda:0", "cuda:1"]
    assert stage.job(two).finished_at <= stage.job(late).finished_at


def test_old_parts_of_downloads_are_swept_and_mirrors_are_handed_on(
    stage: Stage, run: Run, until: Until, tmp_path: Path
) -> None:
    old, new = (tmp_path / "weights" / f"{name}.pth.part" for name in ("old", "new"))
    for part in (old, new):
        part.parent.mkdir(exist_ok=True)
        part.touch()
    os.utime(old, (0, 0))
    given: list[Task] = []

    def look(task: Task, channel: Connection) -> None:
        given.append(task)
        at_once(task, channel)

    job_id = stage.submit("look", look)
    run(mirror="http://a/,http://b")
    until(lambda: stage.state(job_id) == State.succeeded)

    assert (old.exists(), new.exists()) == (False, True)
    assert given[0].mirrors == ("http://a/", "http://b/")


@pytest.mark.parametrize("last_words", [["give up"], ["give up", "take"], ["give up", "take", "?"]])
def test_a_child_that_dies_without_its_device_leaves_it_free(
    stage: Stage, run: Run, until: Until, last_words: list[str]
) -> None:
    def die_waiting(given: Task, channel: Connection) -> None:
        for word in last_words:
            channel.send(word)

    dying = stage.submit("dying", die_waiting)
    run()
    until(lambda: stage.state(dying) == State.failed)
    fine = stage.submit("fine", at_once)
    until(lambda: stage.state(fine) == State.succeeded)

    assert stage.job(dying).error == stage.job(dying).error | {"code": "worker_lost"}
    assert (stage.job(dying).attempt, stage.job(dying).losses) == (3, 3)


def test_a_child_that_falls_silent_is_given_up_killed_and_begins_again(
    stage: Stage, run: Run, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when somebody has stopped its process."""
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(supervisor, "WATCH_SECONDS", 0.05)

    def silent_once(given: Task, channel: Connection) -> None:
        if given.fence.claim == 1:
            start(stage, given.fence)
            stage.started[-1].killed.wait()
        succeed(given)  # while it comes up its supervisor gives the signs of life, however long

    job_id = stage.submit("silent", silent_once)
    run(lease_seconds=1)
    until(lambda: stage.state(job_id) == State.succeeded)

    assert (stage.job(job_id).attempt, stage.job(job_id).losses) == (2, 1)
    assert reasons(stage, job_id) == ["nothing was heard of its worker"]
    assert stage.started[1].killed.is_set()  # after the probe's
    assert not stage.started[2].killed.is_set()


def test_a_child_that_is_heard_of_is_left_alone(
    stage: Stage, run: Run, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(supervisor, "WATCH_SECONDS", 0.05)
    came_up = threading.Event()

    def come_up_slowly(given: Task, channel: Connection) -> None:
        came_up.wait()  # its supervisor gives the signs of life meanwhile
        succeed(given)

    job_id = stage.submit("slow", come_up_slowly)
    run(lease_seconds=1)
    until(lambda: stage.job(job_id).beat > 20)  # two seconds and more
    came_up.set()
    until(lambda: stage.state(job_id) == State.succeeded)

    assert stage.job(job_id).attempt == 1
    assert not stage.started[1].killed.is_set()


def test_a_database_that_does_not_answer_is_asked_again(
    stage: Stage,
    run: Run,
    until: Until,
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "TROUBLE_SECONDS", 0.1)
    failed: list[float] = []

    @event.listens_for(engine, "before_cursor_execute")
    def _(connection: object, cursor: object, statement: str, *_: object) -> None:
        if "RETURNING" in statement and len(failed) < 5:
            failed.append(time.monotonic())
            raise sqlite3.OperationalError("database is locked")

    job_id = stage.submit("train", at_once)
    errors = run()
    until(lambda: stage.state(job_id) == State.succeeded)

    assert len(failed) == 5
    assert all(later - earlier >= 0.1 for earlier, later in itertools.pairwise(failed))
    assert errors == []
    assert "the database did not answer" in caplog.text


def test_jobs_of_workers_that_are_gone_are_taken_over(
    stage: Stage, run: Run, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.05)
    # Of its own job it gives signs of life however long the disk takes with that.
    monkeypatch.setattr(supervisor, "WATCH_SECONDS", 0.05)
    job_id = stage.submit("train", at_once)
    with stage.sessions.begin() as session:
        gone = jobs.claim(session, worker_id="gone", host="there", device=None)
        assert gone is not None

    run(lease_seconds=0.5)
    until(lambda: stage.state(job_id) == State.succeeded)

    assert stage.job(job_id).attempt == 2


def test_a_process_that_cannot_start_costs_no_attempt_and_no_other_job(
    stage: Stage, run: Run, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "TROUBLE_SECONDS", 0.05)
    job_id = stage.submit("train", at_once)
    refused: list[EOFError] = []

    def start(process: Process) -> None:
        if len(stage.started) == 2 and not refused:
            refused.append(EOFError("unexpected EOF"))  # as when the forkserver dies just then
            raise refused[0]
        process._thread.start()

    monkeypatch.setattr(Process, "start", start)
    errors = run()
    until(lambda: stage.state(job_id) == State.succeeded)

    assert (stage.job(job_id).attempt, stage.job(job_id).claim) == (1, 2)
    assert refused
    assert errors == []


def test_a_job_that_can_neither_start_nor_be_released_leaves_its_device_free(
    stage: Stage,
    run: Run,
    until: Until,
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "TROUBLE_SECONDS", 0.05)
    refused: list[Exception] = []

    def start(process: Process) -> None:
        if len(stage.started) == 2 and not refused:
            refused.append(EOFError("unexpected EOF"))
            raise refused[0]
        process._thread.start()

    @event.listens_for(engine, "before_cursor_execute")
    def _(connection: object, cursor: object, statement: str, *_: object) -> None:
        if len(refused) == 1 and statement.startswith("UPDATE jobs"):
            refused.append(sqlite3.OperationalError("database is locked"))
            raise refused[1]

    monkeypatch.setattr(Process, "start", start)
    job_id = stage.submit("train", at_once)
    errors = run()
    until(lambda: len(refused) == 2)
    fine = stage.submit("fine", at_once)
    until(lambda: stage.state(fine) == State.succeeded)

    assert errors == []
    assert stage.state(job_id) == State.starting  # its lease runs out
    assert f"no process for {job_id}: unexpected EOF" in caplog.text
    assert f"{job_id} cannot be released: database is locked" in caplog.text


def test_a_home_that_is_gone_ends_the_worker_and_its_children(
    stage: Stage, run: Run, until: Until, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.05)

    def wait(given: Task, channel: Connection) -> None:
        start(stage, given.fence)
        stage.started[1].killed.wait()

    job_id = stage.submit("train", wait)
    errors = run()
    until(lambda: stage.state(job_id) == State.running)
    (tmp_path / "danlu.sqlite3").rename(tmp_path / "moved.sqlite3")

    until(lambda: errors)
    assert isinstance(errors[0], Problem)
    assert errors[0].code == "home_gone"
    assert stage.started[1].killed.is_set()


def test_an_error_of_its_own_gives_the_jobs_back(
    stage: Stage, run: Run, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else Python would wait at the exit for children that nobody watches."""
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.2)

    def wait(given: Task, channel: Connection) -> None:
        start(stage, given.fence)
        stage.started[1].killed.wait()

    job_id = stage.submit("train", wait)
    errors = run(jobs_per_device=2)  # on the CPU, where nothing stands by
    until(lambda: stage.state(job_id) == State.running)
    monkeypatch.setattr(Process, "start", lambda self: (_ for _ in ()).throw(BlockingIOError()))
    other = stage.submit("one too many", at_once)

    until(lambda: errors)
    assert isinstance(errors[0], BlockingIOError)
    for one in (job_id, other):
        assert (stage.state(one), stage.job(one).attempt) == (State.queued, 1)


def test_it_waits_until_it_is_ready_and_while_a_child_comes_up(
    stage: Stage, run: Run, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, began = Supervisor.__init__, Process.start
    ours: list[Supervisor] = []
    seen: list[bool] = []

    def make(one: Supervisor, *given: Any, **named: Any) -> None:
        made(one, *given, **named)
        ours.append(one)
        seen.append(one.waits)

    def begin(process: Process) -> None:
        seen.append(ours[0].waits)
        began(process)

    monkeypatch.setattr(Supervisor, "__init__", make)
    monkeypatch.setattr(Process, "start", begin)
    errors = run()
    until(lambda: not ours[0].waits)
    job_id = stage.submit("train", at_once)
    until(lambda: stage.state(job_id) == State.succeeded)
    until(lambda: not ours[0].waits)

    assert seen == [True, True, True]  # made, asked what there is, given a job
    assert errors == []
