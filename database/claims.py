"""What the holder of a claim may do with its job, and how a claim is given and given up.

Knows nothing of what a job does. A worker writes through its fence: once its claim is given up, or
the job has ended, nothing of it is accepted any more. Callers outside this room say `jobs.claim`.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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
    true,
    update,
)
from sqlalchemy.orm import Session

from database import events, queue
from database.tables import AT_WORK, ENDED, Job, State, given, now
from problems import Problem

MAX_LOSSES = 3
# A job that went well for an hour was not lost by its own doing before: count afresh.
STEADY_SECONDS = 3600.0
_NO_WORKER = dict.fromkeys(("worker_id", "worker_host", "worker_pid", "claimed_at"))
_SIGN_OF_LIFE: dict[str, Any] = {"beat": Job.beat + 1}


@dataclass(frozen=True, slots=True)
class Fence:
    """One claim of one job by one worker: the right to write about it."""

    job_id: str
    worker_id: str
    claim: int


class Orders(NamedTuple):
    """What the holder of a claim hears in return for a sign of life."""

    state: State  # `cancelling`: stop at the next step
    finishing: bool  # stop after this epoch, as if it were the last


def claim(
    session: Session,
    *,
    worker_id: str,
    host: str,
    device: str | None,
    kinds: Sequence[str] = ("train",),
    job_id: str | None = None,
) -> Job | None:
    """Takes the next queued job of these kinds for this worker, or None. No job is taken twice.
    With `job_id` it is that one or none.

    The order is that of `database.queue`. The job is `starting` until `start`, and lost unless it
    is heard of (see `database.leases`).
    """
    # SQLite leaves FOR UPDATE away: its writers follow one another anyway.
    chosen = queue.CLAIM_ORDER.where(queue.waiting.kind.in_(kinds)).limit(1)
    if job_id is not None:
        chosen = chosen.where(queue.waiting.id == job_id)
    chosen = chosen.with_for_update(of=queue.waiting, skip_locked=True)
    taken = (
        update(Job)
        .where(Job.id == chosen.scalar_subquery(), Job.state == State.queued)
        .values(
            state=State.starting,
            interrupted=False,
            claim=Job.claim + 1,
            claimed_at=time.time(),
            device=device,
            worker_id=worker_id,
            worker_host=host,
            worker_pid=None,
            **_SIGN_OF_LIFE,
        )
        .returning(Job)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    job = session.scalars(taken).one_or_none()
    if job is not None:
        queue.had_turn(session, job.owner)
        tell_state(session, job.id, job.state, job.attempt)
    return job


def fence_of(job: Job) -> Fence:
    """The fence of a job just claimed; `ValueError` for one that no worker has."""
    if job.worker_id is None:
        raise ValueError(f"no worker has {job.id}")
    return Fence(job_id=job.id, worker_id=job.worker_id, claim=job.claim)


def start(session: Session, fence: Fence, *, pid: int, device: str | None) -> bool:
    """starting -> running. False: cancelled meanwhile (see `heartbeat`), or the fence is lost."""
    return _move(
        session,
        _fenced(fence, State.starting),
        state=State.running,
        worker_pid=pid,
        device=device,
        started_at=func.coalesce(Job.started_at, now()),
        **_SIGN_OF_LIFE,
    )


def assign(session: Session, fence: Fence, *, device: str | None) -> bool:
    """Notes that the job now computes on `device`; None: on none, as during a download."""
    return _change(session, fence, device=device) is not None


def heartbeat(session: Session, fence: Fence) -> Orders | None:
    """A sign of life, which hears what was asked for meanwhile; None: the fence is lost."""
    return _change(session, fence, **_SIGN_OF_LIFE)


def progress(
    session: Session,
    fence: Fence,
    *,
    progress: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
) -> Orders | None:
    """A sign of life that also says how far the job is; `metrics` None leaves those as they are."""
    told: dict[str, Any] = {"progress": dict(progress)}
    if metrics is not None:
        told["metrics"] = dict(metrics)
    steady = Job.claimed_at < time.time() - STEADY_SECONDS
    losses = case((steady, 0), else_=Job.losses)
    orders = _change(session, fence, **told, losses=losses, **_SIGN_OF_LIFE)
    if orders is not None:
        events.add(session, fence.job_id, events.PROGRESS, told)
    return orders


def further(session: Session, fence: Fence) -> None:
    """The job got further than ever before: what it lost until now was not for good."""
    _change(session, fence, losses=0)


def describe(
    session: Session,
    fence: Fence,
    *,
    dataset_version: str | None = None,
    warnings: Sequence[Mapping[str, Any]] | None = None,
) -> bool:
    """Writes what became known while working, each in place of what was there; None: unchanged."""
    found = {
        "dataset_version": dataset_version,
        "warnings": None if warnings is None else [dict(warning) for warning in warnings],
    }
    changes = {name: value for name, value in found.items() if value is not None}
    return _change(session, fence, **changes) is not None


def finish(
    session: Session,
    fence: Fence,
    *,
    state: State,
    stop_reason: str | None = None,
    error: Mapping[str, object] | None = None,
) -> bool:
    """The job ends as `state` (one of ENDED); `error` is `Problem.as_dict()`. False: fence lost."""
    return _move(
        session,
        _fenced(fence),
        state=state,
        stop_reason=stop_reason,
        error=None if error is None else dict(error),
        finished_at=now(),
        **_NO_WORKER,
    )


def release(session: Session, fence: Fence) -> bool:
    """The job can be given back, and why is known: queued again, no attempt counted;
    cancelling -> cancelled.
    """
    return _move(session, _fenced(fence), **_put_back(false()))


def lose(session: Session, fence: Fence, *, reason: str) -> bool:
    """The worker's process is gone and nobody knows why. False: fence lost already.

    Back to queued as the next attempt, failed with worker_lost at the third loss without getting
    further, cancelling -> cancelled. `reason` is told to people, such as "ended by SIGKILL".
    """
    return _move(session, _fenced(fence), reason=reason, **_given_up(reason))


def lose_silent(session: Session, job_id: str, *, claim: int, beat: int) -> bool:
    """As `lose`, of whoever holds this claim, unless there was a sign of life after `beat`."""
    silent = and_(Job.id == job_id, Job.claim == claim, Job.beat == beat, Job.state.in_(AT_WORK))
    reason = "nothing was heard of its worker"
    return _move(session, silent, reason=reason, **_given_up(reason))


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


def left_behind(session: Session, *, host: str, but: str) -> list[Fence]:
    """Claims on this host of other workers than `but`."""
    held = select(Job.id, Job.worker_id, Job.claim).where(
        Job.state.in_(AT_WORK), Job.worker_host == host, Job.worker_id != but
    )
    return [
        Fence(job_id=job_id, worker_id=worker_id, claim=claim)
        for job_id, worker_id, claim in session.execute(held)
        if worker_id is not None
    ]


def tell_state(
    session: Session, job_id: str, state: State, attempt: int, *, reason: str | None = None
) -> None:
    """The event that a job is in this state now; `end` follows from `tell_end`."""
    why = {} if reason is None else {"reason": reason}
    events.add(session, job_id, "state", {"state": state.value, "attempt": attempt, **why})


def tell_end(session: Session, job: Job) -> None:
    """The event that a job has ended, after the one that says as what."""
    told = {
        "state": job.state.value,
        "attempt": job.attempt,
        "stop_reason": job.stop_reason,
        "error": job.error,
    }
    events.add(session, job.id, events.END, told)


def _fenced(fence: Fence, *states: State) -> ColumnElement[bool]:
    return and_(
        Job.id == fence.job_id,
        Job.worker_id == fence.worker_id,
        Job.claim == fence.claim,
        Job.state.in_(states or AT_WORK),
    )


def _change(session: Session, fence: Fence, /, **changes: Any) -> Orders | None:
    """Changes what is not the state."""
    changed = update(Job).where(_fenced(fence)).values(**changes)
    changed = changed.returning(Job.state, Job.finishing)
    told = session.execute(changed.execution_options(synchronize_session=False)).one_or_none()
    return None if told is None else Orders(*told)


def _move(
    session: Session, guard: ColumnElement[bool], /, *, reason: str | None = None, **changes: Any
) -> bool:
    """Changes the state, in one statement, and tells of it."""
    moved = update(Job).where(guard).values(**changes).returning(Job)
    moved = moved.execution_options(synchronize_session=False, populate_existing=True)
    job = session.scalars(moved).one_or_none()
    if job is None:
        return False
    tell_state(session, job.id, job.state, job.attempt, reason=reason)
    if job.state in ENDED:
        tell_end(session, job)
    return True


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
        "interrupted": case((over, false()), else_=true()),
        "device": case((over, Job.device), else_=null()),
        "progress": case((over, Job.progress), else_=null()),
        "finished_at": case((over, now()), else_=null()),
    }


def _given_up(reason: str) -> dict[str, Any]:
    fails = and_(Job.state != State.cancelling, Job.losses + 1 >= MAX_LOSSES)
    again = and_(Job.state != State.cancelling, Job.losses + 1 < MAX_LOSSES)
    error = Problem(
        "worker_lost",
        f"The job was lost {MAX_LOSSES} times without getting further; the last time {reason}.",
        hint="Often the machine ran out of memory: try a smaller batch_size or image_size.",
    )
    return {
        **_put_back(fails),
        "losses": Job.losses + 1,
        "attempt": case((again, Job.attempt + 1), else_=Job.attempt),
        "error": case((fails, literal(error.as_dict(), JSON())), else_=Job.error),
    }
