"""A checkpoint that was imported belongs to no job."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("checkpoints") as table:
        table.alter_column("job_id", existing_type=sa.String(), nullable=True)
