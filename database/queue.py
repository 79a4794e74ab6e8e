"""The order in which queued jobs are claimed, and what it means for each of them.

Priority first, then jobs that were interrupted, then the owner with the fewest jobs at work, then
the owner whose turn was longest ago, then age (docs/decisions/0011). Changes nothing but turns.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import count, groupby
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import func, select, update
from sqlalchemy import insert as insert_into
from sqlalchemy.orm import Session, aliased

from database.tables import AT_WORK, Job, Owner, State

# Jobs of one lane wait for one another, and for none of another lane: only training needs a device.
LANES = (("train",), ("import", "export"))

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

_BY_RANK = _QUEUED.add_columns(
    waiting.owner, waiting.priority, waiting.interrupted, _jobs_at_work, _last_turn
).order_by(*_FIRST, waiting.id)


def is_waiting(session: Session, kinds: Sequence[str] = ("train",)) -> bool:
    """Whether a job of these kinds is queued. Writes nothing, so it may be asked often."""
    queued = select(Job.id).where(Job.state == State.queued, Job.kind.in_(kinds)).limit(1)
    return session.scalar(queued) is not None


class First(NamedTuple):
    """A job that is next to be claimed, and what it asks for."""

    id: str
    recipe: dict[str, Any] | None


def first(session: Session, kinds: Sequence[str] = ("train",)) -> First | None:
    """The next of these kinds to be claimed, as things are now. Writes nothing."""
    chosen = CLAIM_ORDER.where(waiting.kind.in_(kinds)).limit(1).scalar_subquery()
    row = session.execute(select(Job.id, Job.recipe).where(Job.id == chosen)).one_or_none()
    return None if row is None else First(*row)


def positions(session: Session) -> dict[str, int]:
    """Place in its lane of each queued job: 1 is the next to be claimed, as things are now.

    Each claim moves the others up by one, as long as no job ends and none comes to the queue.
    """
    return {job_id: at for kinds in LANES for job_id, at in _positions(session, kinds)}


def _positions(session: Session, kinds: Sequence[str]) -> Iterator[tuple[str, int]]:
    rows = session.execute(_BY_RANK.where(waiting.kind.in_(kinds))).all()
    standing = {owner: (at_work, turn) for _, owner, _, _, at_work, turn in rows}
    turns = count(1 + max((turn for _, turn in standing.values()), default=0))
    ranks = groupby(rows, key=itemgetter(2, 3))
    in_order = (job_id for _, rank in ranks for job_id in _in_turn(rank, standing, turns))
    return ((job_id, place) for place, job_id in enumerate(in_order, 1))


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


def _in_turn(
    rank: Iterator[Sequence[Any]], standing: dict[str, tuple[int, int]], turns: Iterator[int]
) -> Iterator[str]:
    """Ids of jobs, all as urgent as each other, as their owners come to their turns.

    `standing`: what decides between owners, their jobs at work and last turn; follows the turns.
    """
    waiting_of: dict[str, deque[str]] = defaultdict(deque)
    for job_id, owner, *_ in rank:
        waiting_of[owner].append(job_id)
    firsts = [(standing[owner], ids.popleft(), owner) for owner, ids in waiting_of.items()]
    heapify(firsts)
    while firsts:
        (at_work, _), job_id, owner = heappop(firsts)
        standing[owner] = (at_work + 1, next(turns))
        yield job_id
        if waiting_of[owner]:
            heappush(firsts, (standing[owner], waiting_of[owner].popleft(), owner))
