"""What all kinds of jobs have in common; training itself is in test_run_train.py."""

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from database import engine as engines
from database import history, jobs
from database.jobs import Fence
from problems import Problem
from workers import run_job
from workers.reporter import Stop, Stopped
from workers.run_job import Outcome
from workers.task import Task

Sessions = sessionmaker[Session]


class NoDevice:
    """For jobs that need none."""

    def give_up(self) -> None:
        raise AssertionError("it has none")

    def take(self) -> tuple[str, ...]:
        raise AssertionError("it needs none")


@pytest.fixture
def task(sessions: Sessions, url: str, tmp_path: Path) -> Task:
    """An import, claimed."""
    with sessions.begin() as session:
        asked = {"upload": "a.zip"}
        jobs.enqueue(
            session, kind="import", dataset="pets", recipe=None, request=asked, owner="lin"
        )
        job = jobs.claim(session, worker_id="w1", host="here", device=None, kinds=("import",))
        assert job is not None
        fence = jobs.fence_of(job)
    folders = ("datasets", "cache", "checkpoints", "weights", "runs", "uploads")
    return Task(
        fence=fence,
        kind="import",
        device="cpu",
        database=url,
        **{name: tmp_path / name for name in folders},
    )


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (ValueError("what nobody foresaw"), "job_failed"),
        (Problem("dataset_invalid", "There is one class."), "dataset_invalid"),
        (MemoryError(), "out_of_memory"),
        (
            RuntimeError("put_ does not have a deterministic implementation, but you set"),
            "deterministic_unavailable",
        ),
        (OSError(28, "No space left on device"), "disk_full"),
        (OperationalError("INSERT", None, Exception("database or disk is full")), "disk_full"),
        (OSError(2, "No such file or directory", "/srv/danlu/datasets/x"), "job_failed"),
    ],
)
def test_an_error_of_any_kind_is_an_outcome(
    task: Task, monkeypatch: pytest.MonkeyPatch, raised: Exception, code: str
) -> None:
    monkeypatch.setattr(run_job, "_work", _raise(raised))

    outcome = run_job.run(task, NoDevice(), Stop())

    assert outcome.state == "failed"
    assert outcome.error is not None
    assert outcome.error["code"] == code
    assert "/srv" not in str(outcome.error)


@pytest.mark.parametrize(("why", "state"), [("cancel", "cancelled"), ("release", "released")])
def test_a_stop_is_an_outcome(
    task: Task, monkeypatch: pytest.MonkeyPatch, why: Any, state: Any
) -> None:
    stop = Stop()
    stop.set(why)
    monkeypatch.setattr(run_job, "_work", _raise(Stopped()))

    assert run_job.run(task, NoDevice(), stop) == Outcome(state)


def test_a_job_that_was_cancelled_before_it_began_does_nothing(
    task: Task, sessions: Sessions
) -> None:
    with sessions.begin() as session:
        jobs.cancel(session, task.fence.job_id)
    stop = Stop()
    stop.set("cancel")

    assert run_job.run(task, NoDevice(), stop) == Outcome("cancelled")


def test_a_job_leaves_the_log_of_the_database_to_others(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread that keeps the lease would stand still while the disk does."""
    monkeypatch.setattr(run_job, "_work", lambda *_: "completed")
    path = tmp_path / "danlu.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as much:
        much.execute("PRAGMA wal_autocheckpoint = 0")
        much.execute("CREATE TABLE much AS SELECT zeroblob(5000000)")
        before = path.stat().st_mtime_ns

        assert run_job.run(task, NoDevice(), Stop()).state == "succeeded"

        assert path.stat().st_mtime_ns == before


def test_a_training_that_finds_the_database_locked_goes_on_later(
    task: Task,
    claim: Callable[..., Fence],
    recipe: Callable[..., Any],
    sessions: Sessions,
    tmp_path: Path,
    write_images: Callable[..., Path],
    until: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engines, "BUSY_SECONDS", 0.2)
    monkeypatch.setattr(run_job, "LATER_SECONDS", 0.1)
    write_images("train")
    asked = recipe(epochs=100_000, batch_size=8, checkpoints={"keep": 1})
    training = replace(task, fence=claim(asked), kind="train")
    training.run.mkdir(parents=True)
    outcomes: list[Outcome] = []
    thread = threading.Thread(
        target=lambda: outcomes.append(run_job.run(training, NoDevice(), Stop()))
    )

    thread.start()
    until(lambda: _epochs(sessions, training) > 1)
    with closing(sqlite3.connect(tmp_path / "danlu.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        until(lambda: "the database did not answer" in caplog.text or outcomes)
    thread.join(20)

    assert outcomes == [Outcome("released")]
    assert (training.run / "state").is_dir()


def test_a_job_that_goes_on_later_does_not_go_on_at_once(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_job, "LATER_SECONDS", 0.3)
    monkeypatch.setattr(run_job, "_work", _raise(LOCKED))
    began = time.monotonic()

    assert run_job.run(task, NoDevice(), Stop()) == Outcome("released")

    assert time.monotonic() - began >= 0.3


def test_a_job_that_goes_on_later_is_stopped_meanwhile(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_job, "LATER_SECONDS", 60)
    monkeypatch.setattr(run_job, "_work", _raise(LOCKED))
    stop = Stop()
    timer = threading.Timer(0.2, lambda: stop.set("release"))
    timer.start()

    assert run_job.run(task, NoDevice(), stop) == Outcome("released")

    timer.join()


LOCKED = OperationalError("UPDATE", None, sqlite3.OperationalError("database is locked"))


def _epochs(sessions: Sessions, task: Task) -> int:
    with sessions() as session:
        return len(history.epochs(session, task.fence.job_id))


def _raise(error: Exception) -> Callable[..., Any]:
    def work(*_: object) -> None:
        raise error

    return work
