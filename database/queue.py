"""The order in which queued jobs are claimed, and what it means for each of them.

Priority first, then jobs that were interrupted, then the owner with the fewest jobs at work, then
the owner whose turn was longest ago, then age (docs/decisions/0011). Changes nothing but turns.
"""

from collections.abc import Sequence

from sqlalchemy import func, select, update
from sqlalchemy import insert as insert_into
from sqlalchemy.orm import Session, aliased

from database.tables import AT_WORK, Job, Owner, State

waiting = aliased(Job, name="waiting")
_busy = (
    select(Job.owner, func.count().label("jobs"))
    .where(Job.state.in_(AT_WORK))
    .group_by(Job.owner)
    .subquery("busy")
)
_jobs_at_work = func.coalesce(_busy.c.jobs, 0)
_last_turn = func.coalesce(Owner.turn, 0)
_QUEUED = (
    select(waiting.id)
    .outerjoin(_busy, _busy.c.owner == waiting.owner)
    .outerjoin(Owner, Owner.name == waiting.owner)
    .where(waiting.state == State.queued)
)
_FIRST = (waiting.priority.desc(), waiting.interrupted.desc())

# Ids of the queued jobs, next to be claimed first. Built once: an idle worker asks all the time.
CLAIM_ORDER = _QUEUED.order_by(*_FIRST, _jobs_at_work, _last_turn, waiting.id)

# After each claim the order is another one: an owner's second job comes after everyone's first.
_nth_of_owner = func.row_number().over(
    partition_by=(waiting.owner, waiting.priority, waiting.interrupted), order_by=waiting.id
)
_FORESEEN = _QUEUED.order_by(*_FIRST, _jobs_at_work + _nth_of_owner, _last_turn, waiting.id)


def is_waiting(session: Session, kinds: Sequence[str] = ("train",)) -> bool:
    """Whether a job of these kinds is queued. Writes nothing, so it may be asked often."""
    queued = select(Job.id).where(Job.state == State.queued, Job.kind.in_(kinds)).limit(1)
    return session.scalar(queued) is not None


def positions(session: Session) -> dict[str, int]:
    """Place in the queue of each queued job: 1 is the next to be claimed, as things are now."""
    return {job_id: place for place, job_id in enumerate(session.scalars(_FORESEEN), 1)}


def length_of(session: Session, owner: str) -> int:
    """How many jobs of this owner are queued."""
    queued = select(func.count()).where(Job.state == State.queued, Job.owner == owner)
    return session.scalar(queued) or 0


def had_turn(session: Session, owner: str) -> None:
    """Notes that a job of this owner was claimed."""
    newest = select(func.coalesce(func.max(Owner.turn), 0) + 1).scalar_subquery()
    row = update(Owner).where(Owner.name == owner).values(turn=newest).returning(Owner.name)
    if session.scalar(row.execution_options(synchronize_session=False)) is None:
        session.execute(insert_into(Owner).values(name=owner, turn=newest))
