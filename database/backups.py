"""What a backup has to know of a database and to change in its copy.

Reads this danlu's form of the tables and older ones. Knows nothing of what else a backup holds.
"""

import sqlite3
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from database import aliases, checkpoints, engine, files
from database.claims import fence_of, release
from database.tables import AT_WORK, Job, Process, State


@dataclass(frozen=True, slots=True)
class Seen:
    """A process of ours, and when it was last heard of (seconds since 1970)."""

    role: str
    host: str
    pid: int
    seen_at: float


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a database. `jobs` are states by id; `without_best` are jobs whose best checkpoint
    has no row; `aliases` are the checkpoints that they point at.
    """

    jobs: Mapping[str, str] = field(default_factory=dict)
    without_best: frozenset[str] = frozenset()
    checkpoint_ids: frozenset[str] = frozenset()
    processes: tuple[Seen, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)


def revision(path: Path) -> str | None:
    """The form of the tables, None for a file without ours. To be asked before anything else: what
    a newer danlu made may lack what `contents` looks for.
    """
    with files.reading(path) as connection:
        if "alembic_version" not in _tables(connection):
            return None
        rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        return str(rows[0][0]) if rows else None


def contents(path: Path) -> Contents:
    """What is in a database, which others may use meanwhile; all empty without our tables."""
    with files.reading(path) as connection:
        connection.execute("BEGIN")  # all of it as of one moment
        there = _tables(connection)
        ours = {"jobs", "checkpoints", "processes"} <= there
        return _contents(connection, there) if ours else Contents()


def without(path: Path, checkpoint_ids: Collection[str]) -> None:
    """Forgets checkpoints and the aliases that point at them; each job's best is chosen from those
    left.
    """
    if not checkpoint_ids:
        return
    database = engine.connect(f"sqlite:///{path}")
    with engine.session_factory(database).begin() as session:
        for checkpoint_id in checkpoint_ids:
            aliases.release(session, checkpoint_id)
            checkpoints.remove(session, checkpoint_id)
    database.dispose()
    with closing(sqlite3.connect(path)) as connection:  # in one file again
        connection.execute("PRAGMA journal_mode = DELETE")


def begin_anew(session: Session) -> list[str]:
    """For a database that another home has left: its jobs at work go back to the queue, without an
    attempt counted, and its processes are forgotten. Returns the ids of those that are queued now.
    """
    session.execute(delete(Process))
    at_work = select(Job).where(Job.state.in_(AT_WORK)).order_by(Job.id)
    held = [fence_of(job) for job in session.scalars(at_work)]
    for fence in held:
        release(session, fence)
    queued = select(Job.id).where(Job.state == State.queued)
    again = {fence.job_id for fence in held}
    return sorted(again.intersection(session.scalars(queued)))


def _tables(connection: sqlite3.Connection) -> set[str]:
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {name for (name,) in found}


def _contents(connection: sqlite3.Connection, there: Collection[str]) -> Contents:
    jobs = connection.execute("SELECT id, state, best_checkpoint_id FROM jobs").fetchall()
    rows = connection.execute("SELECT id FROM checkpoints")
    checkpoint_ids = frozenset(checkpoint_id for (checkpoint_id,) in rows)
    processes = connection.execute("SELECT role, host, pid, seen_at FROM processes")
    named = "SELECT name, checkpoint_id FROM aliases"  # of 0005
    return Contents(
        jobs={job_id: state for job_id, state, _ in jobs},
        without_best=frozenset(
            job_id for job_id, _, best in jobs if best and best not in checkpoint_ids
        ),
        checkpoint_ids=checkpoint_ids,
        processes=tuple(Seen(*row) for row in processes),
        aliases=dict(connection.execute(named).fetchall()) if "aliases" in there else {},
    )
