"""Saved models as rows: which there are, which is a job's best, which may go.

Knows nothing of their files, which must be complete before a row is added. The best of a job has
the highest validation accuracy, then the lowest validation loss, then the earliest epoch.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import case, delete, func, or_, select, update
from sqlalchemy.orm import Session

from database import aliases, events, ids
from database.claims import Fence, hold
from database.pages import Page, cursor_to, place_of
from database.tables import ACTIVE, Checkpoint, Epoch, Job, State
from problems import Problem

_BEST_FIRST = (
    Checkpoint.val_accuracy.desc().nulls_last(),
    Checkpoint.val_loss.asc().nulls_last(),
    Checkpoint.epoch,
    Checkpoint.id,
)
_SORT = "-id"


class Known(NamedTuple):
    """What rows there are: the ids of all checkpoints, and the last epoch of each job."""

    ids: frozenset[str]
    epochs: Mapping[str, int]


def add(  # noqa: PLR0913 - the columns of the row
    session: Session,
    fence: Fence,
    *,
    checkpoint_id: str,
    epoch: int,
    val_accuracy: float | None,
    val_loss: float | None,
    disk_bytes: int,
) -> bool:
    """Adds a checkpoint of the fence's job and sees whether it is its best; False: fence lost.

    `checkpoint_id` is from `ids.new("ckpt")`. The job's best_val_accuracy never falls.
    """
    if hold(session, fence) is None:
        return False
    row = Checkpoint(
        id=checkpoint_id,
        job_id=fence.job_id,
        epoch=epoch,
        val_accuracy=val_accuracy,
        val_loss=val_loss,
        disk_bytes=disk_bytes,
        created_at=ids.time_of(checkpoint_id),
    )
    session.add(row)
    session.flush()
    best = _sum_up(session, fence.job_id)
    told = {"id": row.id, "epoch": epoch, "val_accuracy": val_accuracy, "best": best == row.id}
    events.add(session, fence.job_id, "checkpoint", told)
    return True


def add_foreign(session: Session, checkpoint_id: str, *, disk_bytes: int) -> Checkpoint:
    """Adds a checkpoint that was imported: it belongs to no job, and nothing measured it here."""
    row = Checkpoint(
        id=checkpoint_id,
        job_id=None,
        epoch=0,
        disk_bytes=disk_bytes,
        created_at=ids.time_of(checkpoint_id),
    )
    session.add(row)
    session.flush()
    return row


def weigh(session: Session, checkpoint_id: str, *, disk_bytes: int) -> None:
    """Notes what the files take by now; nothing if the checkpoint is gone."""
    row = session.get(Checkpoint, checkpoint_id, populate_existing=True)
    if row is None:
        return
    row.disk_bytes = disk_bytes
    session.flush()
    if row.job_id is not None:
        _sum_up(session, row.job_id)


def prove(session: Session, fence: Fence, checkpoint_id: str, *, passed: bool | None) -> None:
    """Notes whether it serves as it was trained (None: that could not be seen), unless the fence is
    lost.
    """
    if hold(session, fence) is None:
        return
    proven = update(Checkpoint).where(Checkpoint.id == checkpoint_id).values(parity=passed)
    session.execute(proven.execution_options(synchronize_session=False))


def needed(session: Session) -> dict[str, str]:
    """Checkpoints that jobs which have not ended start from or export: the id of such a job."""
    wanted = func.coalesce(
        Job.recipe["init_from"].as_string(), Job.request["checkpoint"].as_string()
    )
    found = select(wanted, Job.id).where(Job.state.in_(ACTIVE), wanted.is_not(None))
    return {str(checkpoint_id): job_id for checkpoint_id, job_id in session.execute(found)}


def get(session: Session, checkpoint_id: str) -> Checkpoint:
    """The checkpoint; Problem checkpoint_not_found."""
    checkpoint = session.get(Checkpoint, checkpoint_id, populate_existing=True)
    if checkpoint is None:
        raise Problem("checkpoint_not_found", f"There is no checkpoint {checkpoint_id[:80]!r}.")
    return checkpoint


def find(
    session: Session, *, job_id: str | None = None, limit: int = 50, cursor: str | None = None
) -> Page[Checkpoint]:
    """A page of checkpoints, newest first; Problem invalid_request for a cursor of another list."""
    found = select(Checkpoint).order_by(Checkpoint.id.desc()).limit(limit + 1)
    if job_id is not None:
        found = found.where(Checkpoint.job_id == job_id)
    if cursor is not None:
        found = found.where(Checkpoint.id < place_of(cursor, _SORT)[1])
    rows = list(session.scalars(found))
    more = len(rows) > limit
    return Page(rows[:limit], cursor_to(_SORT, (None, rows[limit - 1].id)) if more else None)


def of_job(session: Session, job_id: str) -> list[Checkpoint]:
    """All checkpoints of a job, oldest first."""
    found = select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(Checkpoint.id)
    return list(session.scalars(found))


def newest_of(session: Session, job_id: str) -> Checkpoint | None:
    """The job's checkpoint of the latest epoch, None while it has none."""
    found = select(Checkpoint).where(Checkpoint.job_id == job_id)
    return session.scalars(found.order_by(Checkpoint.epoch.desc()).limit(1)).one_or_none()


def known(session: Session) -> Known:
    """By which it is told what a crash left from what another database knows. An epoch has its row
    before it has a checkpoint.
    """
    last = select(Epoch.job_id, func.max(Epoch.epoch)).group_by(Epoch.job_id)
    epochs = dict(session.execute(last).all())
    return Known(frozenset(session.scalars(select(Checkpoint.id))), epochs)


def best_of(session: Session, job_id: str) -> Checkpoint | None:
    """The job's best checkpoint so far, None while it has none."""
    found = select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(*_BEST_FIRST)
    return session.scalars(found.limit(1)).one_or_none()


def newest_model(session: Session) -> Checkpoint | None:
    """The best checkpoint of the newest succeeded job that still has one."""
    found = (
        select(Checkpoint)
        .join(Job, Job.best_checkpoint_id == Checkpoint.id)
        .where(Job.state == State.succeeded)
        .order_by(Job.id.desc())
    )
    return session.scalars(found.limit(1)).one_or_none()


def prunable(session: Session, job_id: str, *, keep: int | None) -> list[str]:
    """Ids that may go, oldest first: all but the newest `keep`, the best, and those that other
    jobs or aliases need; None keeps all. No alias can be pointed at them until the commit.
    """
    if keep is None:
        return []
    rows = of_job(session, job_id)
    older = [row.id for row in rows[: max(len(rows) - keep, 0)]]
    if not older:
        return []
    session.execute(select(Checkpoint.id).where(Checkpoint.id.in_(older)).with_for_update())
    best = best_of(session, job_id)
    others = needed(session).keys() | aliases.pointing_at(session, older).keys()
    return [one for one in older if (best is None or one != best.id) and one not in others]


def remove(session: Session, checkpoint_id: str) -> bool:
    """Forgets a checkpoint; the job's best is chosen from those left. False: there was none.

    Raises `IntegrityError` when an alias points at it: see `aliases.refuse_if_pointed_at`.
    """
    gone = delete(Checkpoint).where(Checkpoint.id == checkpoint_id).returning(Checkpoint.job_id)
    row = session.execute(gone.execution_options(synchronize_session=False)).one_or_none()
    if row is None:
        return False
    if row.job_id is not None:
        _sum_up(session, row.job_id)
    return True


def _sum_up(session: Session, job_id: str) -> str | None:
    """Brings the job's best checkpoint, whose id it returns, and the bytes of all up to date."""
    best = best_of(session, job_id)
    taken = select(func.coalesce(func.sum(Checkpoint.disk_bytes), 0))
    changes: dict[str, Any] = {
        "best_checkpoint_id": best.id if best else None,
        "disk_bytes": taken.where(Checkpoint.job_id == job_id).scalar_subquery(),
    }
    if best is not None and best.val_accuracy is not None:
        less = or_(Job.best_val_accuracy.is_(None), Job.best_val_accuracy < best.val_accuracy)
        changes["best_val_accuracy"] = case((less, best.val_accuracy), else_=Job.best_val_accuracy)
    job = update(Job).where(Job.id == job_id).values(**changes)
    session.execute(job.execution_options(synchronize_session=False))
    return best.id if best else None
