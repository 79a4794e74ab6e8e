"""What a job measured: a row per epoch and a thin line of steps. Knows no job states but the fence.

A line only grows: writing a point cuts off what an earlier, lost try left beyond it.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, func, insert, or_, select
from sqlalchemy.orm import Session, aliased

from database import events
from database.claims import Fence, further, hold
from database.tables import Epoch, Step


def add_epoch(session: Session, fence: Fence, values: Mapping[str, Any]) -> bool:
    """Writes one epoch of the job's present attempt, over what was there; False: fence lost.

    `values` has `epoch` and any other columns of `tables.Epoch` except job and attempt.
    """
    attempt = hold(session, fence)
    if attempt is None:
        return False
    done = select(Epoch.epoch).where(Epoch.job_id == fence.job_id, Epoch.epoch >= values["epoch"])
    if session.scalar(done.limit(1)) is None:
        further(session, fence)
    session.execute(
        delete(Epoch).where(
            Epoch.job_id == fence.job_id, Epoch.attempt == attempt, Epoch.epoch >= values["epoch"]
        )
    )
    session.execute(insert(Epoch).values(job_id=fence.job_id, attempt=attempt, **values))
    events.add(session, fence.job_id, "epoch", {"attempt": attempt, **values})
    return True


def add_log(session: Session, fence: Fence, line: str) -> bool:
    """Tells those who listen of a line that the job wrote; False: fence lost."""
    if hold(session, fence) is None:
        return False
    events.add(session, fence.job_id, "log", {"line": line})
    return True


def add_coach(session: Session, fence: Fence, advice: Mapping[str, Any]) -> bool:
    """Tells those who listen what the coach says: code, message, recipe; False: fence lost."""
    if hold(session, fence) is None:
        return False
    events.add(session, fence.job_id, "coach", advice)
    return True


def add_step(session: Session, fence: Fence, values: Mapping[str, Any]) -> bool:
    """Writes one point of the line, `values` = step, epoch, train_loss, lr; False: fence lost."""
    if hold(session, fence) is None:
        return False
    session.execute(delete(Step).where(Step.job_id == fence.job_id, Step.step >= values["step"]))
    session.execute(insert(Step).values(job_id=fence.job_id, **values))
    return True


def epochs(session: Session, job_id: str) -> list[Epoch]:
    """The epochs, by attempt and number; [] for a job that does not exist."""
    found = select(Epoch).where(Epoch.job_id == job_id)
    return list(session.scalars(found.order_by(Epoch.attempt, Epoch.epoch)))


def curve(session: Session, job_id: str) -> list[Epoch]:
    """The epochs of all attempts as one line: where a later one begins, what lay beyond is gone."""
    line: list[Epoch] = []
    for row in epochs(session, job_id):
        while line and line[-1].epoch >= row.epoch:
            line.pop()
        line.append(row)
    return line


def steps(
    session: Session, job_id: str, *, since: int | None = None, max_points: int | None = None
) -> list[Step]:
    """The steps after number `since`, in order, thinned evenly to at most `max_points` (>= 2).

    The first and the last are always among them.
    """
    found = select(Step).where(Step.job_id == job_id)
    if since is not None:
        found = found.where(Step.step > since)
    if max_points is None:
        return list(session.scalars(found.order_by(Step.step)))
    numbered = found.add_columns(
        (func.row_number().over(order_by=Step.step) - 1).label("place"),
        func.count().over().label("points"),
    ).subquery("numbered")
    # Of n points m remain where i * (m - 1) // (n - 1) takes its next value, 0 to m - 1.
    gaps, last = max(max_points, 2) - 1, numbered.c.points - 1
    divisor = func.nullif(last, 0)
    taken = numbered.c.place * gaps // divisor > (numbered.c.place - 1) * gaps // divisor
    thinned = aliased(Step, numbered)
    chosen = or_(numbered.c.place == 0, last <= gaps, taken)
    return list(session.scalars(select(thinned).where(chosen).order_by(thinned.step)))
