"""The tables as typed classes, in SQL that SQLite and PostgreSQL share.

Holds no queries and no rules of how a row may change: those are in the module of the same noun.
"""

import math
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    DateTime,
    Double,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    false,
    literal,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class State(StrEnum):
    """Where a job stands. Arrows between them: the functions of `database.jobs`."""

    queued = "queued"  # waits for a worker
    starting = "starting"  # claimed; its process is coming up
    running = "running"  # its process has reported
    cancelling = "cancelling"  # told to stop, has not stopped yet
    succeeded = "succeeded"
    failed = "failed"  # `error` says why
    cancelled = "cancelled"


AT_WORK = frozenset({State.starting, State.running, State.cancelling})
ACTIVE = AT_WORK | {State.queued}
ENDED = frozenset({State.succeeded, State.failed, State.cancelled})


class UtcDateTime(TypeDecorator[datetime]):
    """A timezone-aware time in UTC, also on SQLite, which has no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Metric(TypeDecorator[float]):
    """A measured number; NaN and infinity become null, as they do on the wire."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, _dialect: Dialect) -> float | None:
        return value if value is not None and math.isfinite(value) else None


class Base(DeclarativeBase):
    """What the tables share: how constraints are named and which type a Python type becomes."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as it is
        datetime: UtcDateTime,
        float: Double,
        State: Enum(State, native_enum=False, length=16),
        dict[str, Any]: JSON(none_as_null=True),
        list[str]: JSON(none_as_null=True),
        list[dict[str, Any]]: JSON(none_as_null=True),
    }


class Job(Base):
    """One piece of work, from the request to how it ended. Ids sort by `created_at`."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    state: Mapped[State] = mapped_column(default=State.queued)
    owner: Mapped[str]
    name: Mapped[str | None]
    tags: Mapped[list[str]] = mapped_column(default=list)
    priority: Mapped[int] = mapped_column(default=0)
    dataset_name: Mapped[str | None]
    dataset_version: Mapped[str | None]
    recipe: Mapped[dict[str, Any] | None]
    request: Mapped[dict[str, Any] | None]  # what a job of another kind than train is to do

    attempt: Mapped[int] = mapped_column(default=1)  # 1, and one per loss and per resume
    losses: Mapped[int] = mapped_column(default=0)  # unexplained losses without getting further
    interrupted: Mapped[bool] = mapped_column(default=False, server_default=false())
    finishing: Mapped[bool] = mapped_column(default=False, server_default=false())
    claim: Mapped[int] = mapped_column(default=0)  # every claim counts: part of the fence
    beat: Mapped[int] = mapped_column(default=0, server_default="0")  # signs of life, counted
    claimed_at: Mapped[float | None]  # seconds since 1970
    device: Mapped[str | None]
    worker_id: Mapped[str | None]
    worker_host: Mapped[str | None]
    worker_pid: Mapped[int | None]

    progress: Mapped[dict[str, Any] | None]
    metrics: Mapped[dict[str, Any] | None]
    warnings: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    best_checkpoint_id: Mapped[str | None]
    best_val_accuracy: Mapped[float | None] = mapped_column(Metric)
    disk_bytes: Mapped[int] = mapped_column(BigInteger, default=0)  # of its checkpoints
    stop_reason: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]

    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    # Each filter of a list leads to its rows in the order of the list; the last index has all that
    # the queue asks for, so that nobody reads recipes to see who is next. A heartbeat touches none.
    __table_args__ = (
        Index(None, "state", "id"),
        Index(None, "kind", "id"),
        Index(None, "owner", "id"),
        Index(None, "dataset_name", "id"),
        Index(None, "best_val_accuracy", "id"),
        Index("ix_jobs_queue", "state", "kind", "owner", "priority", "interrupted", "id"),
    )


class Owner(Base):
    """Whose turn it was last: `turn` grows with every claim, of whichever owner."""

    __tablename__ = "owners"

    name: Mapped[str] = mapped_column(primary_key=True)
    turn: Mapped[int]


class IdempotencyKey(Base):
    """A request that made a job, so that sending it again makes no second one."""

    __tablename__ = "idempotency_keys"

    owner: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]  # of what was submitted
    job_id: Mapped[str] = mapped_column(ForeignKey(Job.id, ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(index=True)


class Event(Base):
    """Something that happened to a job, in the order of `id`, which is never used again."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    job_id: Mapped[str] = mapped_column(ForeignKey(Job.id, ondelete="CASCADE"))
    type: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]

    __table_args__ = (
        Index(None, "job_id", "id"),
        Index(None, "type", "created_at"),
        {"sqlite_autoincrement": True},
    )


class JobTag(Base):
    """The index of `Job.tags`: no way to search inside JSON is portable."""

    __tablename__ = "job_tags"

    tag: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(
        ForeignKey(Job.id, ondelete="CASCADE"), primary_key=True, index=True
    )


class Epoch(Base):
    """What one epoch measured. Losses are means per image, accuracies fractions."""

    __tablename__ = "epochs"

    job_id: Mapped[str] = mapped_column(ForeignKey(Job.id, ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    epoch: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    train_loss: Mapped[float | None] = mapped_column(Metric)
    train_accuracy: Mapped[float | None] = mapped_column(Metric)
    val_loss: Mapped[float | None] = mapped_column(Metric)
    val_accuracy: Mapped[float | None] = mapped_column(Metric)
    test_loss: Mapped[float | None] = mapped_column(Metric)
    test_accuracy: Mapped[float | None] = mapped_column(Metric)
    lr: Mapped[float | None] = mapped_column(Metric)
    images_per_second: Mapped[float | None] = mapped_column(Metric)
    seconds: Mapped[float | None] = mapped_column(Metric)


class Step(Base):
    """The loss as it went, a few points per second; `step` counts batches from the start."""

    __tablename__ = "steps"

    job_id: Mapped[str] = mapped_column(ForeignKey(Job.id, ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    epoch: Mapped[int]
    train_loss: Mapped[float | None] = mapped_column(Metric)
    lr: Mapped[float | None] = mapped_column(Metric)


class Checkpoint(Base):
    """A saved model; its files lie in the folder of its id. One that was imported has no job."""

    __tablename__ = "checkpoints"

    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str | None] = mapped_column(ForeignKey(Job.id, ondelete="CASCADE"))
    epoch: Mapped[int]  # 0 without a job
    val_accuracy: Mapped[float | None] = mapped_column(Metric)
    val_loss: Mapped[float | None] = mapped_column(Metric)
    disk_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]
    parity: Mapped[bool | None]  # whether it serves as it was trained; None: not proven

    __table_args__ = (Index(None, "job_id", "id"),)


class Alias(Base):
    """A name that points at a checkpoint, which stays as long as one does."""

    __tablename__ = "aliases"

    name: Mapped[str] = mapped_column(primary_key=True)
    checkpoint_id: Mapped[str] = mapped_column(ForeignKey(Checkpoint.id), index=True)
    updated_at: Mapped[datetime]
    updated_by: Mapped[str]


class Pointing(Base):
    """What an alias was pointed at, in the order of `id`; outlives checkpoint, job and alias."""

    __tablename__ = "pointings"

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    alias: Mapped[str]
    checkpoint_id: Mapped[str]
    job_id: Mapped[str | None]
    updated_at: Mapped[datetime]
    updated_by: Mapped[str]

    __table_args__ = (Index(None, "alias", "id"), {"sqlite_autoincrement": True})


class Process(Base):
    """A process of ours that was alive at `seen_at` (seconds since 1970)."""

    __tablename__ = "processes"

    host: Mapped[str] = mapped_column(primary_key=True)
    pid: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    role: Mapped[str]  # server, predictor, supervisor, forkserver, child
    job_id: Mapped[str | None]
    device: Mapped[str | None]
    info: Mapped[dict[str, Any]] = mapped_column(default=dict)  # what a role tells of itself
    seen_at: Mapped[float]


def now() -> ColumnElement[datetime]:
    """This moment, as a value for a column of times, also inside an expression."""
    return literal(datetime.now(UTC), UtcDateTime())


def given(state: State) -> ColumnElement[State]:
    """`state` as a value for `Job.state` inside an expression, where its type cannot be guessed."""
    return literal(state, Job.state.type)
