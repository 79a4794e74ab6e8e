"""What all kinds of jobs have in common; training itself is in test_run_train.py."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from database import jobs
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


def _raise(error: Exception) -> Callable[..., Any]:
    def work(*_: object) -> None:
        raise error

    return work
