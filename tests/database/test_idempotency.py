from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from database import idempotency, jobs
from database.tables import IdempotencyKey
from problems import Problem

Sessions = sessionmaker[Session]
ASKED = {"owner": "lin", "key": "键 1", "digest": "abc"}


@pytest.fixture
def made(sessions: Sessions, enqueue: Callable[..., jobs.Job]) -> str:
    """The id of a job that the request ASKED has made."""
    job_id = enqueue().id
    with sessions.begin() as session:
        idempotency.remember(session, **ASKED, job_id=job_id)
    return job_id


def job_of(sessions: Sessions, **other: str) -> str | None:
    with sessions() as session:
        return idempotency.job_of(session, **(ASKED | other))


def kept(sessions: Sessions) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(IdempotencyKey)) or 0


def grow_old(sessions: Sessions, age: timedelta) -> None:
    with sessions.begin() as session:
        session.execute(update(IdempotencyKey).values(created_at=datetime.now(UTC) - age))


def test_the_same_request_leads_to_the_job_that_it_made(sessions: Sessions, made: str) -> None:
    assert job_of(sessions) == made
    assert job_of(sessions, key="键 2") is None
    assert job_of(sessions, owner="wu") is None
    assert job_of(sessions, owner="wu", digest="other") is None


def test_the_same_key_for_something_else_is_a_conflict(sessions: Sessions, made: str) -> None:
    with pytest.raises(Problem) as caught:
        job_of(sessions, digest="other")
    assert (caught.value.code, caught.value.status) == ("idempotency_conflict", 422)
    assert made in caught.value.detail
    assert "键 1" in caught.value.detail


def test_owners_may_choose_the_same_key(
    sessions: Sessions, made: str, enqueue: Callable[..., jobs.Job]
) -> None:
    other = enqueue(owner="wu").id
    with sessions.begin() as session:
        idempotency.remember(session, **(ASKED | {"owner": "wu"}), job_id=other)
    assert (job_of(sessions), job_of(sessions, owner="wu")) == (made, other)


def test_what_is_not_committed_is_not_remembered(
    sessions: Sessions, enqueue: Callable[..., jobs.Job]
) -> None:
    job_id = enqueue().id
    with sessions() as session:
        idempotency.remember(session, **ASKED, job_id=job_id)
        session.rollback()
    assert job_of(sessions) is None


def test_a_key_is_kept_for_a_day(
    sessions: Sessions, made: str, enqueue: Callable[..., jobs.Job]
) -> None:
    grow_old(sessions, timedelta(hours=23, minutes=59))
    assert job_of(sessions) == made
    grow_old(sessions, timedelta(hours=24, seconds=1))
    assert job_of(sessions) is None
    assert job_of(sessions, digest="other") is None
    again = enqueue().id
    with sessions.begin() as session:
        idempotency.remember(session, **(ASKED | {"digest": "other"}), job_id=again)
    assert job_of(sessions, digest="other") == again
    assert kept(sessions) == 1


def test_old_keys_of_anybody_are_cleared_away(
    sessions: Sessions, made: str, enqueue: Callable[..., jobs.Job]
) -> None:
    grow_old(sessions, timedelta(days=2))
    job_id = enqueue(owner="wu").id
    with sessions.begin() as session:
        idempotency.remember(session, owner="wu", key="k", digest="d", job_id=job_id)
    assert kept(sessions) == 1


def test_a_request_whose_job_was_removed_makes_a_new_one(sessions: Sessions, made: str) -> None:
    with sessions.begin() as session:
        jobs.cancel(session, made)
        jobs.remove(session, made)
    assert kept(sessions) == 0
    assert job_of(sessions) is None
    assert job_of(sessions, digest="other") is None
