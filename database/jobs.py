"""Jobs: made, found, cancelled, and worked on through `claims`; each arrow is one statement.

Knows nothing of what a job does. Objects that a session loaded before a change do not follow it;
`get` reads afresh.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import EllipsisType
from typing import Any

from sqlalchemy import case, delete, func, null, select, update
from sqlalchemy.orm import Session

from database import events, ids, queue
from database.claims import (
    Fence,
    Orders,
    assign,
    claim,
    describe,
    fence_of,
    finish,
    further,
    heartbeat,
    held_by,
    hold,
    left_behind,
    lose,
    progress,
    release,
    start,
    tell_end,
    tell_state,
)
from database.listing import counts, find
from database.queue import LANES, first, is_waiting
from database.queue import positions as queue_positions
from database.tables import (
    ACTIVE,
    AT_WORK,
    ENDED,
    Checkpoint,
    Epoch,
    Job,
    JobTag,
    State,
    given,
    now,
)
from problems import Problem

__all__ = [
    "ACTIVE",
    "AT_WORK",
    "ENDED",
    "LANES",
    "Fence",
    "Job",
    "Orders",
    "State",
    "assign",
    "cancel",
    "change",
    "claim",
    "counts",
    "describe",
    "ended",
    "enqueue",
    "fence_of",
    "find",
    "finish",
    "finish_early",
    "first",
    "further",
    "get",
    "gone",
    "heartbeat",
    "held_by",
    "hold",
    "is_waiting",
    "left_behind",
    "lose",
    "progress",
    "queue_positions",
    "release",
    "remove",
    "resume",
    "start",
]


def enqueue(  # noqa: PLR0913 - the columns that a request fills
    session: Session,
    *,
    kind: str,
    dataset: str | None,
    recipe: Mapping[str, Any] | None,
    owner: str,
    request: Mapping[str, Any] | None = None,
    name: str | None = None,
    tags: Sequence[str] = (),
    priority: int = 0,
    max_queued: int | None = None,
) -> Job:
    """A new queued job. `dataset` is the canonical name; workers see the job after the commit.
    A job of kind train has a recipe, others have a `request`.

    Raises Problem too_many_queued when the owner has `max_queued` jobs in the queue.
    """
    _leave_room(session, owner, max_queued)
    job_id = ids.new("job")
    job = Job(
        id=job_id,
        kind=kind,
        dataset_name=dataset,
        recipe=None if recipe is None else dict(recipe),
        request=None if request is None else dict(request),
        owner=owner,
        name=name,
        tags=list(dict.fromkeys(tags)),
        priority=priority,
        created_at=ids.time_of(job_id),
    )
    session.add(job)
    session.flush()
    session.add_all(JobTag(tag=tag, job_id=job_id) for tag in job.tags)
    session.flush()
    tell_state(session, job_id, State.queued, attempt=1)
    return job


def get(session: Session, job_id: str) -> Job:
    """The job as the database has it now; Problem job_not_found."""
    job = session.get(Job, job_id, populate_existing=True)
    if job is None:
        raise Problem("job_not_found", f"There is no job {job_id[:80]!r}.")
    return job


def change(
    session: Session,
    job_id: str,
    *,
    name: str | EllipsisType | None = ...,
    tags: Sequence[str] | EllipsisType = ...,
    priority: int | EllipsisType = ...,
) -> Job:
    """Gives a job another name, tags or priority, whatever its state; `...` leaves one as it is.

    Raises Problem job_not_found.
    """
    job = get(session, job_id)
    if name is not ...:
        job.name = name
    if priority is not ...:
        job.priority = priority
    if tags is not ...:
        job.tags = list(dict.fromkeys(tags))
        session.execute(delete(JobTag).where(JobTag.job_id == job_id))
        session.add_all(JobTag(tag=tag, job_id=job_id) for tag in job.tags)
    session.flush()
    return job


def cancel(session: Session, job_id: str) -> Job:
    """queued -> cancelled, starting and running -> cancelling; again is no error.

    Raises Problem job_ended for a job that succeeded or failed, and job_not_found.
    """
    queued = Job.state == State.queued
    told = (
        update(Job)
        .where(Job.id == job_id, Job.state.in_((State.queued, State.starting, State.running)))
        .values(
            state=case((queued, given(State.cancelled)), else_=given(State.cancelling)),
            finished_at=case((queued, now()), else_=null()),
            interrupted=False,
        )
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )
    changed = session.scalar(told)
    job = get(session, job_id)
    if changed is not None:
        tell_state(session, job_id, job.state, job.attempt)
        if job.state is State.cancelled:
            tell_end(session, job)
    elif job.state in (State.succeeded, State.failed):
        raise Problem("job_ended", f"The job {job_id} has {job.state} already.")
    return job


def finish_early(session: Session, job_id: str) -> Job:
    """Asks a job to end after the epoch that it is in, as if that were its last; again is no error.

    Raises Problem job_ended for one that has ended, and job_not_found.
    """
    told = update(Job).where(Job.id == job_id, Job.state.in_(ACTIVE)).values(finishing=True)
    told = told.returning(Job.id).execution_options(synchronize_session=False)
    changed = session.scalar(told)
    job = get(session, job_id)
    if changed is None:
        raise Problem("job_ended", f"The job {job_id} is {job.state} already.")
    return job


def resume(
    session: Session, job_id: str, *, epochs: int | None = None, max_queued: int | None = None
) -> Job:
    """A job that ended goes on from its last state: queued again, as the next attempt.

    `epochs` is the new total. Raises Problem job_active, job_not_resumable when no epoch is left to
    do, too_many_queued, and job_not_found.
    """
    job = get(session, job_id)
    if job.state in ACTIVE:
        raise Problem("job_active", f"The job {job_id} is {job.state}: it has not ended.")
    recipe = _to_go_on(session, job, epochs)
    _leave_room(session, job.owner, max_queued)
    queued_again = (
        update(Job)
        .where(Job.id == job_id, Job.state == job.state)
        .values(
            state=State.queued,
            recipe=recipe,
            attempt=Job.attempt + 1,
            losses=0,
            finishing=False,
            progress=null(),
            stop_reason=None,
            error=null(),
            finished_at=None,
            device=None,
        )
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )
    if session.scalar(queued_again) is None:
        return resume(session, job_id, epochs=epochs, max_queued=max_queued)
    events.reopen(session, job_id)
    job = get(session, job_id)
    tell_state(session, job_id, job.state, job.attempt)
    return job


def remove(session: Session, job_id: str) -> list[str]:
    """Forgets a job that has ended, with all that belongs to it. Returns the ids of its
    checkpoints, whose files are the caller's to remove once this is committed.

    Raises Problem job_active, job_not_found.
    """
    job = get(session, job_id)
    if job.state in ACTIVE:
        raise Problem("job_active", f"The job {job_id} is {job.state}: it has not ended.")
    saved = list(session.scalars(select(Checkpoint.id).where(Checkpoint.job_id == job_id)))
    session.execute(delete(Job).where(Job.id == job_id))
    session.expunge(job)
    return saved


def ended(session: Session, job_ids: Iterable[str]) -> set[str]:
    """Those of `job_ids` that will not change any more; one that does not exist is among them."""
    asked = set(job_ids)
    active = select(Job.id).where(Job.id.in_(asked), Job.state.in_(ACTIVE))
    return asked.difference(session.scalars(active)) if asked else asked


def gone(session: Session, job_ids: Iterable[str]) -> set[str]:
    """Those of `job_ids` that do not exist."""
    asked = set(job_ids)
    return asked.difference(session.scalars(select(Job.id).where(Job.id.in_(asked))))


def epochs_done(session: Session, job_id: str) -> int:
    """The furthest epoch that any attempt has finished."""
    return session.scalar(select(func.max(Epoch.epoch)).where(Epoch.job_id == job_id)) or 0


def _to_go_on(session: Session, job: Job, epochs: int | None) -> dict[str, Any]:
    """The job's recipe with the new number of epochs."""
    if job.kind != "train" or job.recipe is None:
        detail = f"A job of kind {job.kind} cannot be resumed."
        raise Problem("job_not_resumable", detail, hint=f"Ask for the {job.kind} again.")
    done = epochs_done(session, job.id)
    wanted = job.recipe["epochs"] if epochs is None else epochs
    # One that ended on its way to the test part has that still to do.
    if wanted < done or (wanted == done and job.state is State.succeeded):
        raise Problem(
            "job_not_resumable",
            f"{job.id} has done {done} epochs, and {wanted} are asked for.",
            hint=f'Give more: {{"epochs": {done + 10}}}.',
        )
    return {**job.recipe, "epochs": wanted}


def _leave_room(session: Session, owner: str, max_queued: int | None) -> None:
    if max_queued is not None and queue.length_of(session, owner) >= max_queued:
        raise Problem("too_many_queued", f"{owner[:80]!r} has {max_queued} jobs in the queue.")
