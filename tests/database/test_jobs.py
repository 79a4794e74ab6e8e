import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from database import checkpoints, events, history, idempotency, ids, jobs
from database.jobs import State
from database.tables import Base
from problems import Problem

Sessions = sessionmaker[Session]
Claim = Callable[..., jobs.Job | None]
Enqueue = Callable[..., jobs.Job]
JobIn = Callable[..., tuple[str, jobs.Fence]]


def refused(sessions: Sessions, door: Callable[..., object], *args: object, **given: object) -> str:
    """The code of the problem that this door answers with; nothing has changed then."""
    with sessions() as session:
        newest = events.newest(session)
    with sessions.begin() as session, pytest.raises(Problem) as caught:
        door(session, *args, **given)
    with sessions() as session:
        assert events.newest(session) == newest
    return caught.value.code


def add_epochs(sessions: Sessions, fence: jobs.Fence, epochs: int) -> None:
    with sessions.begin() as session:
        for epoch in range(1, epochs + 1):
            assert history.add_epoch(session, fence, {"epoch": epoch})


def add_checkpoint(sessions: Sessions, fence: jobs.Fence) -> str:
    checkpoint_id = ids.new("ckpt")
    with sessions.begin() as session:
        assert checkpoints.add(
            session,
            fence,
            checkpoint_id=checkpoint_id,
            epoch=1,
            val_accuracy=0.5,
            val_loss=1.5,
            disk_bytes=7,
        )
    return checkpoint_id


def done(
    sessions: Sessions, job_in: JobIn, state: State, *, epochs: int, **given: object
) -> tuple[str, jobs.Fence]:
    """A job that ended as `state` after so many epochs."""
    job_id, fence = job_in(State.running, **given)
    add_epochs(sessions, fence, epochs)
    with sessions.begin() as session:
        error = {"code": "disk_full", "message": "full"} if state == State.failed else None
        assert jobs.finish(session, fence, state=state, stop_reason="completed", error=error)
    return job_id, fence


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
    doors = (jobs.get, jobs.cancel, jobs.change, jobs.finish_early, jobs.resume, jobs.remove)
    for door in doors:
        assert refused(sessions, door, job_id) == "job_not_found"


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


def test_ended_tells_whom_a_long_poll_may_answer(sessions: Sessions, job_in: JobIn) -> None:
    over = [job_in(state)[0] for state in (State.succeeded, State.failed, State.cancelled)]
    active = [job_in(state)[0] for state in (State.running, State.cancelling, State.queued)]
    gone = ids.new("job")
    with sessions() as session:
        assert jobs.ended(session, [*over, *active, gone]) == {*over, gone}
        assert jobs.ended(session, []) == set()


def test_gone_are_those_that_do_not_exist(sessions: Sessions, job_in: JobIn) -> None:
    there = [job_in(state)[0] for state in (State.succeeded, State.queued)]
    gone = ids.new("job")
    with sessions() as session:
        assert jobs.gone(session, [*there, gone]) == {gone}
        assert jobs.gone(session, []) == set()


def test_an_owner_has_so_many_jobs_in_the_queue_and_no_more(
    sessions: Sessions, enqueue: Enqueue, claim: Claim
) -> None:
    for _ in range(2):
        enqueue(max_queued=2)
    with pytest.raises(Problem) as caught:
        enqueue(max_queued=2)
    assert (caught.value.code, caught.value.status) == ("too_many_queued", 429)
    assert "2 jobs" in caught.value.detail
    enqueue(owner="wu", max_queued=2)
    claim()
    enqueue(max_queued=2)
    enqueue()
    with sessions() as session:
        assert len(jobs.find(session, owner="lin").items) == 4


@pytest.mark.parametrize("state", sorted(State))
def test_name_tags_and_priority_may_be_changed_in_every_state(
    sessions: Sessions, job_in: JobIn, state: State
) -> None:
    job_id, _ = job_in(state, name="old", tags=["a", "b"], priority=1)
    with sessions.begin() as session:
        job = jobs.change(session, job_id)
        assert (job.name, job.tags, job.priority, job.state) == ("old", ["a", "b"], 1, state)
        job = jobs.change(session, job_id, name=None, tags=["b", "猫", "b"], priority=-7)
    with sessions() as session:
        job = jobs.get(session, job_id)
        assert (job.name, job.tags, job.priority, job.state) == (None, ["b", "猫"], -7, state)
        found = {tag: len(jobs.find(session, tag=tag).items) for tag in ("a", "b", "猫")}
    assert found == {"a": 0, "b": 1, "猫": 1}


def test_one_may_be_changed_without_the_others(sessions: Sessions, enqueue: Enqueue) -> None:
    job_id = enqueue(name="old", tags=["a"]).id
    with sessions.begin() as session:
        jobs.change(session, job_id, priority=0)
        jobs.change(session, job_id, tags=[])
        jobs.change(session, job_id, name="new")
    with sessions() as session:
        job = jobs.get(session, job_id)
    assert (job.name, job.tags, job.priority) == ("new", [], 0)


def test_a_job_that_is_made_urgent_is_next(
    sessions: Sessions, enqueue: Enqueue, claim: Claim
) -> None:
    enqueue()
    second = enqueue()
    with sessions.begin() as session:
        jobs.change(session, second.id, priority=1)
    job = claim()
    assert job is not None
    assert job.id == second.id


@pytest.mark.parametrize("state", sorted(jobs.ACTIVE))
def test_a_job_may_be_asked_to_finish_early(
    sessions: Sessions, job_in: JobIn, state: State
) -> None:
    job_id, _ = job_in(state)
    for _ in range(2):
        with sessions.begin() as session:
            job = jobs.finish_early(session, job_id)
        assert (job.state, job.finishing) == (state, True)


@pytest.mark.parametrize("state", sorted(jobs.ENDED))
def test_a_job_that_ended_cannot_finish_early(
    sessions: Sessions, job_in: JobIn, state: State
) -> None:
    assert refused(sessions, jobs.finish_early, job_in(state)[0]) == "job_ended"


@pytest.mark.parametrize("lost", [True, False])
def test_the_wish_to_finish_outlives_the_worker(
    sessions: Sessions, job_in: JobIn, claim: Claim, lost: bool
) -> None:
    job_id, fence = job_in(State.running)
    with sessions.begin() as session:
        jobs.finish_early(session, job_id)
        if lost:
            jobs.lose(session, fence, reason="ended by SIGKILL")
        else:
            jobs.release(session, fence)
    again = claim()
    assert again is not None
    with sessions.begin() as session:
        assert jobs.heartbeat(session, jobs.fence_of(again)) == (State.starting, True)
        jobs.finish(session, jobs.fence_of(again), state=State.failed)
        assert not jobs.resume(session, job_id).finishing, "it goes on to its very end"


@pytest.mark.parametrize("state", [State.failed, State.cancelled])
def test_a_resumed_job_goes_on_as_its_next_attempt(
    sessions: Sessions, job_in: JobIn, claim: Claim, state: State
) -> None:
    recipe = {"epochs": 3, "optimizer": {"lr": 0.1}}
    job_id, fence = job_in(State.running, recipe=recipe, name="数字", tags=["a"])
    add_epochs(sessions, fence, 2)
    saved = add_checkpoint(sessions, fence)
    with sessions.begin() as session:
        jobs.progress(session, fence, progress={"epoch": 2}, metrics={"train_loss": 1.0})
        jobs.describe(session, fence, warnings=[{"code": "validation_tiny"}], dataset_version="v")
        jobs.finish(session, fence, state=state, stop_reason="completed", error={"code": "x"})
    with sessions.begin() as session:
        job = jobs.resume(session, job_id)
    assert (job.state, job.attempt, job.losses, job.interrupted) == (State.queued, 2, 0, False)
    assert (job.progress, job.stop_reason, job.error, job.finished_at) == (None,) * 4
    assert (job.worker_id, job.device) == (None, None)
    assert (job.recipe, job.name, job.tags) == (recipe, "数字", ["a"])
    assert (job.metrics, job.dataset_version) == ({"train_loss": 1.0}, "v")
    assert job.warnings == [{"code": "validation_tiny"}]
    assert job.best_checkpoint_id == saved
    assert job.started_at is not None
    with sessions() as session:
        assert len(history.epochs(session, job_id)) == 2
    again = claim()
    assert again is not None
    assert (again.id, again.attempt, again.claim) == (job_id, 2, 2)


def test_losses_of_before_do_not_count_for_a_resumed_job(
    sessions: Sessions, enqueue: Enqueue, claim: Claim
) -> None:
    job_id = enqueue().id

    def lose() -> State:
        job = claim()
        assert job is not None
        with sessions.begin() as session:
            jobs.lose(session, jobs.fence_of(job), reason="ended by SIGKILL")
            return jobs.get(session, job_id).state

    assert [lose() for _ in range(3)] == [State.queued, State.queued, State.failed]
    with sessions.begin() as session:
        jobs.resume(session, job_id)
    assert [lose() for _ in range(3)] == [State.queued, State.queued, State.failed]
    with sessions() as session:
        assert jobs.get(session, job_id).attempt == 6


def test_a_job_cancelled_in_the_queue_may_be_resumed(
    sessions: Sessions, enqueue: Enqueue, claim: Claim
) -> None:
    job_id = enqueue().id
    with sessions.begin() as session:
        jobs.cancel(session, job_id)
        job = jobs.resume(session, job_id, epochs=5)
    assert (job.recipe, job.started_at) == ({"epochs": 5}, None)
    assert claim() is not None


@pytest.mark.parametrize(
    ("state", "done_epochs", "epochs", "resumable"),
    [
        (State.succeeded, 3, None, False),
        (State.succeeded, 3, 3, False),
        (State.succeeded, 3, 2, False),
        (State.succeeded, 3, 4, True),
        (State.succeeded, 2, None, True),  # it had stopped early
        (State.failed, 3, None, True),  # the test part is still to do
        (State.failed, 3, 2, False),
        (State.cancelled, 1, None, True),
        (State.cancelled, 2, 2, True),
        (State.cancelled, 2, 1, False),
        (State.failed, 0, None, True),
    ],
)
def test_a_job_is_resumed_when_something_is_left_to_do(
    sessions: Sessions,
    job_in: JobIn,
    state: State,
    done_epochs: int,
    epochs: int | None,
    resumable: bool,
) -> None:
    job_id, _ = done(sessions, job_in, state, epochs=done_epochs)
    if resumable:
        with sessions.begin() as session:
            recipe = jobs.resume(session, job_id, epochs=epochs).recipe
        assert recipe == {"epochs": 3 if epochs is None else epochs}
    else:
        assert refused(sessions, jobs.resume, job_id, epochs=epochs) == "job_not_resumable"
        with sessions() as session:
            job = jobs.get(session, job_id)
        assert (job.state, job.attempt, job.recipe) == (state, 1, {"epochs": 3})


def test_epochs_of_all_attempts_are_done(sessions: Sessions, job_in: JobIn, claim: Claim) -> None:
    """A later attempt that was cut short does not take back what an earlier one has done."""
    job_id, fence = job_in(State.running)
    add_epochs(sessions, fence, 3)
    with sessions.begin() as session:
        jobs.lose(session, fence, reason="ended by SIGKILL")
    again = claim()
    assert again is not None
    add_epochs(sessions, jobs.fence_of(again), 1)
    with sessions.begin() as session:
        jobs.finish(session, jobs.fence_of(again), state=State.cancelled)
    assert refused(sessions, jobs.resume, job_id, epochs=2) == "job_not_resumable"


def test_the_hint_of_a_job_that_is_done_says_what_to_ask_for(
    sessions: Sessions, job_in: JobIn
) -> None:
    job_id, _ = done(sessions, job_in, State.succeeded, epochs=3)
    with sessions.begin() as session, pytest.raises(Problem) as caught:
        jobs.resume(session, job_id)
    assert "3 epochs" in caught.value.detail
    assert '{"epochs": 13}' in (caught.value.as_dict()["hint"] or "")


@pytest.mark.parametrize("state", sorted(jobs.ACTIVE))
def test_an_active_job_is_neither_resumed_nor_removed(
    sessions: Sessions, job_in: JobIn, state: State
) -> None:
    job_id, _ = job_in(state)
    assert refused(sessions, jobs.resume, job_id, epochs=9) == "job_active"
    assert refused(sessions, jobs.remove, job_id) == "job_active"
    with sessions() as session:
        assert jobs.get(session, job_id).state == state


def test_other_kinds_than_training_have_nothing_to_go_on_from(
    sessions: Sessions, enqueue: Enqueue
) -> None:
    job_id = enqueue(kind="import", recipe=None).id
    with sessions.begin() as session:
        jobs.cancel(session, job_id)
    assert refused(sessions, jobs.resume, job_id, epochs=9) == "job_not_resumable"


def test_a_resumed_job_needs_room_in_the_queue(
    sessions: Sessions, job_in: JobIn, enqueue: Enqueue
) -> None:
    job_id, _ = job_in(State.failed)
    enqueue()
    assert refused(sessions, jobs.resume, job_id, max_queued=1) == "too_many_queued"
    with sessions.begin() as session:
        assert jobs.resume(session, job_id, max_queued=2).state == State.queued


def test_of_many_who_resume_a_job_one_does(sessions: Sessions, job_in: JobIn) -> None:
    job_id, _ = job_in(State.failed)
    together, got = threading.Barrier(4), []

    def resume() -> None:
        together.wait()
        try:
            with sessions.begin() as session:
                got.append(jobs.resume(session, job_id).state.value)
        except Problem as problem:
            got.append(problem.code)

    threads = [threading.Thread(target=resume) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == ["job_active"] * 3 + ["queued"]
    with sessions() as session:
        assert jobs.get(session, job_id).attempt == 2


def rows_of(sessions: Sessions, job_id: str) -> dict[str, int]:
    """How many rows of each table belong to the job."""
    with sessions() as session:
        tables = [table for table in Base.metadata.sorted_tables if "job_id" in table.columns]
        return {
            table.name: len(session.execute(select(table.c.job_id).filter_by(job_id=job_id)).all())
            for table in tables
            if table.name not in ("processes", "pointings")  # a history outlives what it names
        }


def full(sessions: Sessions, job_in: JobIn, key: str) -> tuple[str, str]:
    """A job that succeeded with something in every table, and its checkpoint."""
    job_id, fence = job_in(State.running, tags=["a", "b"])
    add_epochs(sessions, fence, 3)
    saved = add_checkpoint(sessions, fence)
    with sessions.begin() as session:
        history.add_step(session, fence, {"step": 1, "epoch": 1})
        idempotency.remember(session, owner="lin", key=key, digest="d", job_id=job_id)
        jobs.finish(session, fence, state=State.succeeded)
    return job_id, saved


def test_a_job_is_removed_with_all_that_belongs_to_it(sessions: Sessions, job_in: JobIn) -> None:
    job_id, saved = full(sessions, job_in, "k1")
    other, _ = full(sessions, job_in, "k2")
    before = rows_of(sessions, other)
    assert before == rows_of(sessions, job_id)
    assert min(before.values()) > 0
    with sessions.begin() as session:
        assert jobs.remove(session, job_id) == [saved]
    assert set(rows_of(sessions, job_id).values()) == {0}
    assert rows_of(sessions, other) == before
    for door in (jobs.get, jobs.remove):
        assert refused(sessions, door, job_id) == "job_not_found"
    with sessions() as session:
        assert [job.id for job in jobs.find(session).items] == [other]


@pytest.mark.parametrize("state", sorted(jobs.ENDED))
def test_a_job_without_checkpoints_is_removed(
    sessions: Sessions, job_in: JobIn, state: State
) -> None:
    job_id, fence = job_in(state)
    with sessions.begin() as session:
        assert jobs.remove(session, job_id) == []
    with sessions.begin() as session:
        assert jobs.heartbeat(session, fence) is None
        assert not jobs.finish(session, fence, state=State.failed)
