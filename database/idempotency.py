"""Requests that may be sent again: a key stands for one request and the job that it made.

Knows nothing of HTTP. Keys of different owners have nothing to do with each other.
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from database.tables import IdempotencyKey, now
from problems import Problem

KEPT = timedelta(hours=24)


def job_of(session: Session, *, owner: str, key: str, digest: str) -> str | None:
    """The id of the job that this request made before, None if it is new.

    Raises Problem idempotency_conflict when the key came with another `digest`.
    """
    kept = IdempotencyKey.created_at > datetime.now(UTC) - KEPT
    found = select(IdempotencyKey).where(
        IdempotencyKey.owner == owner, IdempotencyKey.key == key, kept
    )
    row = session.scalars(found).one_or_none()
    if row is not None and row.digest != digest:
        raise Problem(
            "idempotency_conflict",
            f"The Idempotency-Key {key[:80]!r} made {row.job_id} from other JSON.",
        )
    return None if row is None else row.job_id


def remember(session: Session, *, owner: str, key: str, digest: str, job_id: str) -> None:
    """Notes which job the request made; call it in the transaction that makes the job."""
    over = IdempotencyKey.created_at <= datetime.now(UTC) - KEPT
    session.execute(delete(IdempotencyKey).where(over))
    row = {"owner": owner, "key": key, "digest": digest, "job_id": job_id, "created_at": now()}
    session.execute(insert(IdempotencyKey).values(row))
