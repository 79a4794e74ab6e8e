"""The first tables: jobs with their tags, history and checkpoints, and the processes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    jobs()
    history()
    checkpoints()
    processes()


def jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("name", sa.String()),
        sa.Column("tags", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("dataset_name", sa.String()),
        sa.Column("dataset_version", sa.String()),
        sa.Column("recipe", sa.JSON(none_as_null=True)),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("claim", sa.Integer(), nullable=False),
        sa.Column("claimed_at", sa.Double()),
        sa.Column("lease_until", sa.Double()),
        sa.Column("device", sa.String()),
        sa.Column("worker_id", sa.String()),
        sa.Column("worker_host", sa.String()),
        sa.Column("worker_pid", sa.Integer()),
        sa.Column("progress", sa.JSON(none_as_null=True)),
        sa.Column("metrics", sa.JSON(none_as_null=True)),
        sa.Column("warnings", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("best_checkpoint_id", sa.String()),
        sa.Column("best_val_accuracy", sa.Double()),
        sa.Column("disk_bytes", sa.BigInteger(), nullable=False),
        sa.Column("stop_reason", sa.String()),
        sa.Column("error", sa.JSON(none_as_null=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
    )
    for column in ("state", "kind", "owner", "dataset_name", "best_val_accuracy"):
        op.create_index(f"ix_jobs_{column}_id", "jobs", [column, "id"])
    op.create_table(
        "job_tags",
        sa.Column("tag", sa.String(), primary_key=True),
        sa.Column(
            "job_id", sa.String(), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
        ),
    )
    op.create_index("ix_job_tags_job_id", "job_tags", ["job_id"])


def history() -> None:
    op.create_table(
        "epochs",
        sa.Column(
            "job_id", sa.String(), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("attempt", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("train_loss", sa.Double()),
        sa.Column("train_accuracy", sa.Double()),
        sa.Column("val_loss", sa.Double()),
        sa.Column("val_accuracy", sa.Double()),
        sa.Column("test_loss", sa.Double()),
        sa.Column("test_accuracy", sa.Double()),
        sa.Column("lr", sa.Double()),
        sa.Column("images_per_second", sa.Double()),
        sa.Column("seconds", sa.Double()),
    )
    op.create_table(
        "steps",
        sa.Column(
            "job_id", sa.String(), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("step", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("train_loss", sa.Double()),
        sa.Column("lr", sa.Double()),
    )


def checkpoints() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column(
            "job_id", sa.String(), sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("val_accuracy", sa.Double()),
        sa.Column("val_loss", sa.Double()),
        sa.Column("disk_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_checkpoints_job_id_id", "checkpoints", ["job_id", "id"])


def processes() -> None:
    op.create_table(
        "processes",
        sa.Column("host", sa.String(), primary_key=True),
        sa.Column("pid", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("job_id", sa.String()),
        sa.Column("device", sa.String()),
        sa.Column("info", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
    )
