"""Alembic's entry: runs the revisions on the connection that `database.engine.migrate` opened."""

from alembic import context

from database.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite changes a column by copying its table
    transactional_ddl=True,  # our SQLite connections begin by themselves: all or nothing
)
with context.begin_transaction():
    context.run_migrations()
