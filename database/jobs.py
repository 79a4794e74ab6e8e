"""Jobs: made, found, cancelled, and worked on through `claims`; each arrow is one statement.

Knows nothing of what a job does. Objects that a session loaded before a change do not follow it;
`get` reads afresh.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import case, null, select, update
from sqlalchemy.orm import Session

from database import ids
from database.claims import (
    CLAIM_ORDER,
    Fence,
    assign,
    claim,
    describe,
    fence_of,
    finish,
    heartbeat,
    held_by,
    hold,
    is_waiting,
    lose,
    progress,
    release,
    requeue_lost,
    start,
)
from database.listing import find
from database.tables import ACTIVE, AT_WORK, ENDED, Job, JobTag, State, given, now
from problems import Problem

__all__ = [
    "ACTIVE",
    "AT_WORK",
    "ENDED",
    "Fence",
    "Job",
    "State",
    "assign",
    "cancel",
    "claim",
    "describe",
    "ended",
    "enqueue",
    "fence_of",
    "find",
    "finish",
    "get",
    "heartbeat",
    "held_by",
    "hold",
    "is_waiting",
    "lose",
    "progress",
    "queue_positions",
    "release",
    "requeue_lost",
    "start",
]


def enqueue(  # noqa: PLR0913 - the columns that a request fills
    session: Session,
    *,
    kind: str,
    dataset: str | None,
    recipe: Mapping[str, Any] | None,
    owner: str,
    name: str | None = None,
    tags: Sequence[str] = (),
    priority: int = 0,
) -> Job:
    """A new queued job. `dataset` is the canonical name; workers see the job after the commit."""
    job_id = ids.new("job")
    job = Job(
        id=job_id,
        kind=kind,
        dataset_name=dataset,
        recipe=None if recipe is None else dict(recipe),
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
    return job


def get(session: Session, job_id: str) -> Job:
    """The job as the database has it now; Problem job_not_found."""
    job = session.get(Job, job_id, populate_existing=True)
    if job is None:
        raise Problem("job_not_found", f"There is no job {job_id[:80]!r}.")
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
        )
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )
    changed = session.scalar(told)
    job = get(session, job_id)
    if changed is None and job.state in (State.succeeded, State.failed):
        raise Problem("job_ended", f"The job {job_id} has {job.state} already.")
    return job


def queue_positions(session: Session) -> dict[str, int]:
    """Place in the queue of each queued job: 1 is the next to be claimed, as things are now."""
    return {job_id: place for place, job_id in enumerate(session.scalars(CLAIM_ORDER), 1)}


def ended(session: Session, job_ids: Iterable[str]) -> set[str]:
    """Those of `job_ids` that will not change any more; one that does not exist is among them."""
    asked = set(job_ids)
    active = select(Job.id).where(Job.id.in_(asked), Job.state.in_(ACTIVE))
    return asked.difference(session.scalars(active)) if asked else asked
