"""${message}"""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


# The way back is the copy that migrate() made: there are no downgrades.
def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
