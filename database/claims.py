"""What the holder of a claim may do with its job, and how a claim is given and given up.

Knows nothing of what a job does. A worker writes through its fence: once its claim is given up, or
the job has ended, nothing of it is accepted any more. Callers outside this room say `jobs.claim`.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    and_,
    case,
    false,
    func,
    literal,
    null,
    select,
    update,
)
from sqlalchemy.orm import Session, aliased

from database.tables import AT_WORK, Job, State, given, now
from problems import Problem

LEASE_SECONDS = 10.0
MAX_LOSSES = 3
# A job that went well for an hour was not lost by its own doing before: count afresh.
STEADY_SECONDS = 3600.0
_NO_WORKER = dict.fromkeys(("worker_id", "worker_host", "worker_pid", "lease_until", "claimed_at"))

_waiting = aliased(Job, name="waiting")
_busy = (
    select(Job.owner, func.count().label("jobs"))
    .where(Job.state.in_(AT_WORK))
    .group_by(Job.owner)
    .subquery("busy")
)
# Ids of the queued jobs, next to be claimed first. Built once: an idle worker asks all the time.
CLAIM_ORDER = (
    select(_waiting.id)
    .outerjoin(_busy, _busy.c.owner == _waiting.owner)
    .where(_waiting.state == State.queued)
    .order_by(_waiting.priority.desc(), func.coalesce(_busy.c.jobs, 0), _waiting.id)
)


@dataclass(frozen=True, slots=True)
class Fence:
    """One claim of one job by one worker: the right to write about it."""

    job_id: str
    worker_id: str
    claim: int


def claim(
    session: Session,
    *,
    worker_id: str,
    host: str,
    device: str | None,
    kinds: Sequence[str] = ("train",),
    lease_seconds: float = LEASE_SECONDS,
) -> Job | None:
    """Takes the next queued job of these kinds for this worker, or None. No job is taken twice.

    Order: priority, then the owner with the fewest jobs at work, then age. The job is `starting`
    until `start`, and lost unless it is heard of within `lease_seconds`.
    """
    # SQLite leaves FOR UPDATE away: its writers follow one another anyway.
    chosen = CLAIM_ORDER.where(_waiting.kind.in_(kinds)).limit(1)
    chosen = chosen.with_for_update(of=_waiting, skip_locked=True)
    seconds = time.time()
    taken = (
        update(Job)
        .where(Job.id == chosen.scalar_subquery(), Job.state == State.queued)
        .values(
            state=State.starting,
            claim=Job.claim + 1,
            claimed_at=seconds,
            lease_until=seconds + lease_seconds,
            device=device,
            worker_id=worker_id,
            worker_host=host,
            worker_pid=None,
        )
        .returning(Job)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return session.scalars(taken).one_or_none()


def is_waiting(session: Session, kinds: Sequence[str] = ("train",)) -> bool:
    """Whether a job of these kinds is queued. Writes nothing, so it may be asked often."""
    queued = select(Job.id).where(Job.state == State.queued, Job.kind.in_(kinds)).limit(1)
    return session.scalar(queued) is not None


def fence_of(job: Job) -> Fence:
    """The fence of a job just claimed; `ValueError` for one that no worker has."""
    if job.worker_id is None:
        raise ValueError(f"no worker has {job.id}")
    return Fence(job_id=job.id, worker_id=job.worker_id, claim=job.claim)


def start(session: Session, fence: Fence, *, pid: int, device: str | None) -> bool:
    """starting -> running. False: cancelled meanwhile (see `heartbeat`), or the fence is lost."""
    running = _change(
        session,
        _fenced(fence, State.starting),
        state=State.running,
        worker_pid=pid,
        device=device,
        started_at=func.coalesce(Job.started_at, now()),
    )
    return running is not None


def assign(session: Session, fence: Fence, *, device: str | None) -> bool:
    """Notes that the job now computes on `device`; None: on none, as during a download."""
    return _change(session, _fenced(fence), device=device) is not None


def heartbeat(
    session: Session, fence: Fence, *, lease_seconds: float = LEASE_SECONDS
) -> State | None:
    """Extends the lease and tells the state (is it `cancelling`?); None: the fence is lost."""
    return _change(session, _fenced(fence), lease_until=time.time() + lease_seconds)


def progress(
    session: Session,
    fence: Fence,
    *,
    progress: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
    lease_seconds: float = LEASE_SECONDS,
) -> State | None:
    """A heartbeat that also says how far the job is; `metrics` None leaves those as they are."""
    seconds = time.time()
    changes: dict[str, Any] = {} if metrics is None else {"metrics": dict(metrics)}
    return _change(
        session,
        _fenced(fence),
        progress=dict(progress),
        lease_until=seconds + lease_seconds,
        losses=case((Job.claimed_at < seconds - STEADY_SECONDS, 0), else_=Job.losses),
        **changes,
    )


def describe(
    session: Session,
    fence: Fence,
    *,
    dataset_version: str | None = None,
    recipe: Mapping[str, Any] | None = None,
    warnings: Sequence[Mapping[str, Any]] | None = None,
) -> bool:
    """Writes what became known while working, each in place of what was there; None: unchanged."""
    found = {
        "dataset_version": dataset_version,
        "recipe": None if recipe is None else dict(recipe),
        "warnings": None if warnings is None else [dict(warning) for warning in warnings],
    }
    changes = {name: value for name, value in found.items() if value is not None}
    if not changes:
        return hold(session, fence) is not None
    return _change(session, _fenced(fence), **changes) is not None


def finish(
    session: Session,
    fence: Fence,
    *,
    state: State,
    stop_reason: str | None = None,
    error: Mapping[str, object] | None = None,
) -> bool:
    """The job ends as `state` (one of ENDED); `error` is `Problem.as_dict()`. False: fence lost."""
    ended = _change(
        session,
        _fenced(fence),
        state=state,
        stop_reason=stop_reason,
        error=None if error is None else dict(error),
        finished_at=now(),
        **_NO_WORKER,
    )
    return ended is not None


def release(session: Session, fence: Fence) -> bool:
    """The worker stops as planned: back to queued, no attempt counted; cancelling -> cancelled."""
    return _change(session, _fenced(fence), **_put_back(false())) is not None


def lose(session: Session, fence: Fence) -> State | None:
    """The worker's process is gone and nobody knows why; the new state, None: fence lost already.

    Back to queued as the next attempt, failed with worker_lost at the third loss in a row,
    cancelling -> cancelled.
    """
    return _change(session, _fenced(fence), **_given_up())


def requeue_lost(session: Session, now: float | None = None) -> list[str]:
    """Gives up every job whose lease ran out (as `lose`), in one statement; the ids of those."""
    lost = (
        update(Job)
        .where(Job.state.in_(AT_WORK), Job.lease_until < (time.time() if now is None else now))
        .values(_given_up())
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )
    return list(session.scalars(lost))


def held_by(session: Session, worker_id: str) -> dict[Fence, State]:
    """The claims that this worker holds, and the state of each job."""
    held = select(Job.id, Job.claim, Job.state).where(
        Job.state.in_(AT_WORK), Job.worker_id == worker_id
    )
    return {
        Fence(job_id=job_id, worker_id=worker_id, claim=claim): state
        for job_id, claim, state in session.execute(held)
    }


def hold(session: Session, fence: Fence) -> int | None:
    """Keeps the claim from being given up until the commit; the attempt, None: fence lost."""
    return session.scalar(select(Job.attempt).where(_fenced(fence)).with_for_update())


def _fenced(fence: Fence, *states: State) -> ColumnElement[bool]:
    return and_(
        Job.id == fence.job_id,
        Job.worker_id == fence.worker_id,
        Job.claim == fence.claim,
        Job.state.in_(states or AT_WORK),
    )


def _change(session: Session, guard: ColumnElement[bool], /, **changes: Any) -> State | None:
    changed = update(Job).where(guard).values(**changes).returning(Job.state)
    return session.scalar(changed.execution_options(synchronize_session=False))


def _put_back(fails: ColumnElement[bool]) -> dict[str, Any]:
    """Changes that take a job from its worker: queued again, unless cancelling or `fails`."""
    cancelled = Job.state == State.cancelling
    over = cancelled | fails
    return {
        **_NO_WORKER,
        "state": case(
            (cancelled, given(State.cancelled)),
            (fails, given(State.failed)),
            else_=given(State.queued),
        ),
        "device": case((over, Job.device), else_=null()),
        "progress": case((over, Job.progress), else_=null()),
        "finished_at": case((over, now()), else_=null()),
    }


def _given_up() -> dict[str, Any]:
    fails = and_(Job.state != State.cancelling, Job.losses + 1 >= MAX_LOSSES)
    again = and_(Job.state != State.cancelling, Job.losses + 1 < MAX_LOSSES)
    error = Problem(
        "worker_lost",
        f"The process that trained was lost {MAX_LOSSES} times and left no reason.",
        hint="Often the machine ran out of memory: try a smaller batch_size or image_size.",
    )
    return {
        **_put_back(fails),
        "losses": Job.losses + 1,
        "attempt": case((again, Job.attempt + 1), else_=Job.attempt),
        "error": case((fails, literal(error.as_dict(), JSON())), else_=Job.error),
    }
