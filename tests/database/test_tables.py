import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

from sqlalchemy.orm import Session, sessionmaker

from database import history, jobs
from database.tables import ACTIVE, ENDED, Job, State

Sessions = sessionmaker[Session]


def test_every_state_is_active_or_ended() -> None:
    assert set(State) == ACTIVE | ENDED
    assert not ACTIVE & ENDED


def test_times_come_back_aware_and_in_utc(sessions: Sessions, enqueue: Callable[..., Job]) -> None:
    job_id = enqueue().id
    noon_in_shanghai = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=8)))
    with sessions.begin() as session:
        jobs.get(session, job_id).started_at = noon_in_shanghai
    with sessions() as session:
        job = jobs.get(session, job_id)
    assert job.started_at == noon_in_shanghai
    assert job.started_at.tzinfo is UTC
    assert job.finished_at is None


def test_numbers_that_are_not_finite_become_null(sessions: Sessions, running: jobs.Fence) -> None:
    told = {"train_loss": math.nan, "nested": [math.inf, 1.5, {"deep": -math.inf}]}
    with sessions.begin() as session:
        jobs.progress(session, running, progress={"phase": "training"}, metrics=told)
        history.add_epoch(session, running, {"epoch": 1, "train_loss": math.nan, "lr": 0.1})
    with sessions() as session:
        metrics = jobs.get(session, running.job_id).metrics
        [epoch] = history.epochs(session, running.job_id)
    assert metrics == {"train_loss": None, "nested": [None, 1.5, {"deep": None}]}
    assert (epoch.train_loss, epoch.lr) == (None, 0.1)
