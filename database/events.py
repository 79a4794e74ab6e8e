"""What happened to jobs, in order: written with the change itself, read by whoever listens.

Knows nothing of who listens. An id is never used again, and on SQLite, whose writers follow one
another, ids grow in the order of the commits: a reader that has seen one has seen all before it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from database.tables import Event, now

END = "end"
PROGRESS = "progress"
# Of `progress` only the newest matters for long, and there is one a second.
PROGRESS_KEPT = timedelta(hours=1)


def add(session: Session, job_id: str, type_: str, data: Mapping[str, Any]) -> None:
    """Notes an event in the transaction of the change that it tells of."""
    row = {"job_id": job_id, "type": type_, "data": dict(data), "created_at": now()}
    session.execute(insert(Event).values(row))


def newest(session: Session) -> int:
    """The id of the newest event of all, 0 if there is none."""
    return session.scalar(select(func.max(Event.id))) or 0


def since(session: Session, last: int, *, job_id: str | None = None, limit: int) -> list[Event]:
    """The first `limit` events after number `last`, in order; of one job or of all."""
    found = select(Event).where(Event.id > last)
    if job_id is not None:
        found = found.where(Event.job_id == job_id)
    return list(session.scalars(found.order_by(Event.id).limit(limit)))


def forget_progress(session: Session) -> None:
    """Drops `progress` older than PROGRESS_KEPT; everything else stays as long as its job."""
    old = Event.created_at < datetime.now(UTC) - PROGRESS_KEPT
    session.execute(delete(Event).where(Event.type == PROGRESS, old))


def reopen(session: Session, job_id: str) -> None:
    """A job that goes on has not ended: who reads its events from the start must not stop there."""
    session.execute(delete(Event).where(Event.job_id == job_id, Event.type == END))
