from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session, sessionmaker

from database import ids, jobs
from database.jobs import State
from problems import Problem

Sessions = sessionmaker[Session]
JobIn = Callable[..., tuple[str, jobs.Fence | None]]


def test_a_new_job_is_queued_with_what_was_asked(
    sessions: Sessions, enqueue: Callable[..., jobs.Job]
) -> None:
    made = enqueue(name="数字", tags=["b", "a", "b"], priority=3, recipe={"optimizer": {"lr": 0.1}})
    with sessions() as session:
        job = jobs.get(session, made.id)
    assert (job.kind, job.state, job.owner) == ("train", State.queued, "lin")
    assert (job.dataset_name, job.dataset_version) == ("digits", None)
    assert (job.name, job.tags, job.priority) == ("数字", ["b", "a"], 3)
    assert job.recipe == {"optimizer": {"lr": 0.1}}
    assert (job.attempt, job.losses, job.warnings, job.metrics) == (1, 0, [], None)
    assert timedelta(0) <= datetime.now(UTC) - job.created_at < timedelta(seconds=30)


@pytest.mark.parametrize("job_id", ["job_none", "../../etc/passwd", "", "job_\x00", "作业" * 500])
def test_an_id_that_does_not_exist(sessions: Sessions, job_id: str) -> None:
    for door in (jobs.get, jobs.cancel):
        with sessions.begin() as session, pytest.raises(Problem) as caught:
            door(session, job_id)
        assert caught.value.code == "job_not_found"


@pytest.mark.parametrize(
    ("state", "becomes"),
    [
        (State.queued, State.cancelled),
        (State.starting, State.cancelling),
        (State.running, State.cancelling),
        (State.cancelling, State.cancelling),
        (State.cancelled, State.cancelled),
    ],
)
def test_cancel(sessions: Sessions, job_in: JobIn, state: State, becomes: State) -> None:
    job_id, _ = job_in(state)
    for _ in range(2):
        with sessions.begin() as session:
            job = jobs.cancel(session, job_id)
        assert job.state == becomes
        assert (job.finished_at is None) == (becomes == State.cancelling)


@pytest.mark.parametrize("state", [State.succeeded, State.failed])
def test_a_job_that_ended_cannot_be_cancelled(
    sessions: Sessions, job_in: JobIn, state: State
) -> None:
    job_id, _ = job_in(state)
    with sessions.begin() as session, pytest.raises(Problem) as caught:
        jobs.cancel(session, job_id)
    assert (caught.value.code, caught.value.status) == ("job_ended", 409)


def test_a_cancelled_job_is_not_claimed(
    sessions: Sessions,
    enqueue: Callable[..., jobs.Job],
    claim: Callable[..., jobs.Job | None],
) -> None:
    job_id = enqueue().id
    with sessions.begin() as session:
        jobs.cancel(session, job_id)
    assert claim() is None


def test_queue_positions_tell_who_is_next(
    sessions: Sessions,
    enqueue: Callable[..., jobs.Job],
    claim: Callable[..., jobs.Job | None],
) -> None:
    enqueue(owner="lin")
    claim()
    waiting = [enqueue(owner="lin"), enqueue(owner="wu"), enqueue(owner="lin", priority=1)]
    with sessions() as session:
        places = jobs.queue_positions(session)
    assert [places[job.id] for job in waiting] == [3, 2, 1]
    assert len(places) == 3
    for place in (1, 2, 3):
        job = claim()
        assert job is not None
        assert places[job.id] == place


def test_ended_tells_whom_a_long_poll_may_answer(sessions: Sessions, job_in: JobIn) -> None:
    over = [job_in(state)[0] for state in (State.succeeded, State.failed, State.cancelled)]
    active = [job_in(state)[0] for state in (State.running, State.cancelling, State.queued)]
    gone = ids.new("job")
    with sessions() as session:
        assert jobs.ended(session, [*over, *active, gone]) == {*over, gone}
        assert jobs.ended(session, []) == set()
