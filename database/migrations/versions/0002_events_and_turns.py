"""Events of jobs, whose turn it is, requests that may be repeated, and signs of life by number."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for name in ("interrupted", "finishing"):
        op.add_column("jobs", _flag(name))
    op.add_column("jobs", sa.Column("beat", sa.Integer(), nullable=False, server_default="0"))
    op.drop_column("jobs", "lease_until")
    queue = ["state", "kind", "owner", "priority", "interrupted", "id"]
    op.create_index("ix_jobs_queue", "jobs", queue)
    owners()
    idempotency_keys()
    events()
    of_jobs_that_ended()


def owners() -> None:
    op.create_table(
        "owners",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("turn", sa.Integer(), nullable=False),
    )


def idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", sa.String(), primary_key=True),
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("digest", sa.String(), nullable=False),
        _job_id(),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index(None, "idempotency_keys", ["job_id"])
    op.create_index(None, "idempotency_keys", ["created_at"])


def events() -> None:
    op.create_table(
        "events",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        _job_id(),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index(None, "events", ["job_id", "id"])
    op.create_index(None, "events", ["type", "created_at"])


def of_jobs_that_ended() -> None:
    """Whoever listens to a job of before hears at least that it has ended."""
    jobs = sa.table(
        "jobs",
        sa.column("id", sa.String()),
        sa.column("state", sa.String()),
        sa.column("attempt", sa.Integer()),
        sa.column("stop_reason", sa.String()),
        sa.column("error", sa.JSON()),
        sa.column("created_at", sa.DateTime(timezone=True)),
        sa.column("finished_at", sa.DateTime(timezone=True)),
    )
    events = sa.table(
        "events",
        sa.column("job_id", sa.String()),
        sa.column("type", sa.String()),
        sa.column("data", sa.JSON()),
        sa.column("created_at", sa.DateTime(timezone=True)),
    )
    connection = op.get_bind()
    ended = sa.select(jobs).where(jobs.c.state.in_(("succeeded", "failed", "cancelled")))
    for job in connection.execute(ended.order_by(jobs.c.id)).all():
        told = {
            "state": job.state,
            "attempt": job.attempt,
            "stop_reason": job.stop_reason,
            "error": job.error,
        }
        at = job.finished_at or job.created_at
        row = {"job_id": job.id, "type": "end", "data": told, "created_at": at}
        connection.execute(sa.insert(events).values(row))


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())


def _job_id() -> sa.Column[str]:
    return sa.Column(
        "job_id", sa.String(), sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False
    )
