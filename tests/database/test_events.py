import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from database import checkpoints, claims, events, history, ids, jobs
from database.jobs import Fence, State
from database.tables import Event

Sessions = sessionmaker[Session]
JobIn = Callable[..., tuple[str, Fence]]
Told = Callable[..., list[tuple[str, dict[str, object]]]]


def lose_silent(session: Session, fence: Fence) -> bool:
    beat = jobs.get(session, fence.job_id).beat
    return claims.lose_silent(session, fence.job_id, claim=fence.claim, beat=beat)


def test_a_life_is_told_in_order(
    sessions: Sessions, enqueue: Callable[..., jobs.Job], claim: Callable[..., jobs.Job], told: Told
) -> None:
    job_id = enqueue().id
    fence = jobs.fence_of(claim())
    checkpoint_id = ids.new("ckpt")
    with sessions.begin() as session:
        jobs.start(session, fence, pid=1, device="cpu")
    with sessions.begin() as session:
        jobs.progress(session, fence, progress={"epoch": 0}, metrics={"train_loss": 2.0})
        jobs.progress(session, fence, progress={"epoch": 1})
        history.add_epoch(session, fence, {"epoch": 1, "val_accuracy": 0.5, "val_loss": math.inf})
        checkpoints.add(
            session,
            fence,
            checkpoint_id=checkpoint_id,
            epoch=1,
            val_accuracy=0.5,
            val_loss=1.5,
            disk_bytes=7,
        )
        history.add_log(session, fence, "第一轮")
    with sessions.begin() as session:
        jobs.finish(session, fence, state=State.succeeded, stop_reason="completed")
    assert told(job_id) == [
        ("state", {"state": "queued", "attempt": 1}),
        ("state", {"state": "starting", "attempt": 1}),
        ("state", {"state": "running", "attempt": 1}),
        ("progress", {"progress": {"epoch": 0}, "metrics": {"train_loss": 2.0}}),
        ("progress", {"progress": {"epoch": 1}}),
        ("epoch", {"attempt": 1, "epoch": 1, "val_accuracy": 0.5, "val_loss": None}),
        ("checkpoint", {"id": checkpoint_id, "epoch": 1, "val_accuracy": 0.5, "best": True}),
        ("log", {"line": "第一轮"}),
        ("state", {"state": "succeeded", "attempt": 1}),
        (
            "end",
            {"state": "succeeded", "attempt": 1, "stop_reason": "completed", "error": None},
        ),
    ]


def test_what_is_no_news_is_not_told(sessions: Sessions, running: Fence, told: Told) -> None:
    before = told(running.job_id)
    with sessions.begin() as session:
        jobs.heartbeat(session, running)
        jobs.assign(session, running, device=None)
        jobs.describe(session, running, dataset_version="v1")
        jobs.finish_early(session, running.job_id)
        jobs.change(session, running.job_id, name="new", tags=["a"], priority=3)
        history.add_step(session, running, {"step": 1, "epoch": 1})
    assert told(running.job_id) == before


@pytest.mark.parametrize("state", sorted(jobs.AT_WORK))
@pytest.mark.parametrize("becomes", sorted(jobs.ENDED))
def test_a_job_that_finishes_ends_once(
    sessions: Sessions, job_in: JobIn, told: Told, state: State, becomes: State
) -> None:
    job_id, fence = job_in(state)
    error = {"code": "disk_full", "message": "full", "hint": None}
    with sessions.begin() as session:
        assert jobs.finish(session, fence, state=becomes, error=error)
        assert not jobs.finish(session, fence, state=becomes)
    assert_ended_once(told(job_id), becomes)
    assert told(job_id)[-1][1]["error"] == error


@pytest.mark.parametrize(
    "door",
    [jobs.release, lambda *of: jobs.lose(*of, reason="ended by SIGKILL"), lose_silent],
    ids=["release", "lose", "lose_silent"],
)
def test_a_job_being_cancelled_ends_once_when_its_worker_goes(
    sessions: Sessions, job_in: JobIn, told: Told, door: Callable[[Session, Fence], bool]
) -> None:
    job_id, fence = job_in(State.running)
    for _ in range(2):
        with sessions.begin() as session:
            jobs.cancel(session, job_id)
    assert [data["state"] for _, data in told(job_id)].count("cancelling") == 1
    with sessions.begin() as session:
        assert door(session, fence)
        assert not door(session, fence)
        jobs.cancel(session, job_id)
    assert_ended_once(told(job_id), State.cancelled)


def test_a_queued_job_that_is_cancelled_ends_once(
    sessions: Sessions, job_in: JobIn, told: Told
) -> None:
    job_id, _ = job_in(State.queued)
    for _ in range(2):
        with sessions.begin() as session:
            jobs.cancel(session, job_id)
    assert_ended_once(told(job_id), State.cancelled)


def test_losses_are_told_with_their_reasons_and_the_last_one_ends_the_job(
    sessions: Sessions, enqueue: Callable[..., jobs.Job], claim: Callable[..., jobs.Job], told: Told
) -> None:
    job_id = enqueue().id
    for _ in range(claims.MAX_LOSSES):
        fence = jobs.fence_of(claim())
        with sessions.begin() as session:
            assert jobs.lose(session, fence, reason="ended by SIGKILL")
    lost = [data for type_, data in told(job_id) if type_ == "state" and "reason" in data]
    assert lost == [
        {"state": "queued", "attempt": 2, "reason": "ended by SIGKILL"},
        {"state": "queued", "attempt": 3, "reason": "ended by SIGKILL"},
        {"state": "failed", "attempt": 3, "reason": "ended by SIGKILL"},
    ]
    assert_ended_once(told(job_id), State.failed)
    error = told(job_id)[-1][1]["error"]
    assert isinstance(error, dict)
    assert error["code"] == "worker_lost"


def assert_ended_once(told: list[tuple[str, dict[str, object]]], state: State) -> None:
    types = [type_ for type_, _ in told]
    assert types[-2:] == ["state", "end"]
    assert types.count("end") == 1
    assert [data["state"] for _, data in told[-2:]] == [state, state]


def test_a_job_that_is_resumed_has_not_ended_until_it_ends_again(
    sessions: Sessions, job_in: JobIn, claim: Callable[..., jobs.Job], told: Told
) -> None:
    other, _ = job_in(State.failed)
    job_id, _ = job_in(State.failed)
    before = told(job_id)
    with sessions.begin() as session:
        jobs.resume(session, job_id)
    again = ("state", {"state": "queued", "attempt": 2})
    assert told(job_id) == [*before[:-1], again]
    assert told(other)[-1][0] == "end"
    fence = jobs.fence_of(claim())
    with sessions.begin() as session:
        jobs.finish(session, fence, state=State.succeeded)
    assert_ended_once(told(job_id), State.succeeded)
    assert told(job_id)[-1][1]["attempt"] == 2


def test_an_event_is_there_when_the_change_is_and_not_before(
    sessions: Sessions, running: Fence
) -> None:
    with sessions() as session:
        newest = events.newest(session)
    with sessions() as session:
        jobs.finish(session, running, state=State.succeeded)
        assert events.newest(session) == newest + 2
        session.rollback()
    with sessions() as session:
        assert events.newest(session) == newest
        assert jobs.get(session, running.job_id).state == State.running


def test_reading_goes_on_where_it_stopped(sessions: Sessions, job_in: JobIn) -> None:
    with sessions() as session:
        assert events.newest(session) == 0
        assert events.since(session, 0, limit=10) == []
    job_id, _ = job_in(State.succeeded)
    other, _ = job_in(State.running)
    with sessions() as session:
        every = events.since(session, 0, limit=100)
        numbers = [event.id for event in every]
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == events.newest(session)
        parts = []
        last = 0
        while page := events.since(session, last, limit=2):
            assert len(page) <= 2
            parts += [event.id for event in page]
            last = page[-1].id
        assert parts == numbers
        of_job = events.since(session, 0, job_id=job_id, limit=100)
        assert {event.job_id for event in of_job} == {job_id}
        assert [event.id for event in of_job] == [one.id for one in every if one.job_id != other]
        assert events.since(session, of_job[-1].id, job_id=job_id, limit=100) == []
        assert events.since(session, 0, job_id="job_none", limit=100) == []


def test_a_number_is_never_used_again(
    sessions: Sessions, job_in: JobIn, enqueue: Callable[..., jobs.Job]
) -> None:
    """Who comes back with the number of an event that is gone must not miss the next one."""
    job_id, _ = job_in(State.succeeded)
    with sessions.begin() as session:
        last = events.newest(session)
        jobs.remove(session, job_id)
        assert events.newest(session) == 0
    new = enqueue().id
    with sessions() as session:
        assert [event.job_id for event in events.since(session, last, limit=9)] == [new]


def test_times_are_those_of_the_change(sessions: Sessions, job_in: JobIn) -> None:
    before = datetime.now(UTC)
    job_in(State.running)
    with sessions() as session:
        times = [event.created_at for event in events.since(session, 0, limit=9)]
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= datetime.now(UTC)
    assert all(time.tzinfo is UTC for time in times)


@pytest.mark.parametrize(("age_minutes", "stays"), [(59, True), (61, False)])
def test_only_progress_is_forgotten_and_only_when_it_is_old(
    sessions: Sessions, running: Fence, told: Told, age_minutes: int, stays: bool
) -> None:
    with sessions.begin() as session:
        jobs.progress(session, running, progress={"epoch": 1})
        history.add_epoch(session, running, {"epoch": 1})
        history.add_log(session, running, "x")
        age = timedelta(minutes=age_minutes)
        session.execute(update(Event).values(created_at=datetime.now(UTC) - age))
        jobs.progress(session, running, progress={"epoch": 2})
    before = told()
    with sessions.begin() as session:
        events.forget_progress(session)
    old = ("progress", {"progress": {"epoch": 1}})
    assert old in before
    assert told() == [event for event in before if stays or event != old]


def test_an_event_needs_its_job(sessions: Sessions) -> None:
    with sessions() as session, pytest.raises(Exception, match=r"(?i)foreign key"):
        events.add(session, "job_none", "state", {})
    with sessions() as session:
        assert session.scalars(select(Event)).all() == []
