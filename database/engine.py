"""The way into the database: a pooled engine, sessions, and the migrations that make its tables.

Knows the dialects and nothing of what the rows mean.
"""

import json
import math
import os
import sqlite3
import weakref
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from database import files, processes
from problems import Problem

if TYPE_CHECKING:  # alembic takes a while to import, and only migrate() needs it
    from alembic.config import Config

BUSY_SECONDS = 30.0
# What may well be over the next time (sqlite.org/rescode.html). Of the rest that SQLite calls
# operational, a table that is not there or a full disk, it will say the same again.
_MOMENTS = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
_MIGRATIONS = Path(__file__).parent / "migrations"


def connect(url: str, *, autocheckpoint: bool = True) -> Engine:
    """An engine for `url`, safe to share between threads and to inherit by a fork.

    SQLite runs in WAL mode: readers and the one writer do not wait for each other. With
    `autocheckpoint=False` no commit brings the log into the database's file, and waits for the disk
    meanwhile: somebody else has to (see `database.wal`).
    """
    sqlite = make_url(url).get_backend_name() == "sqlite"
    engine = create_engine(
        url,
        json_serializer=_to_json,
        # The server has up to 40 threads; a request that waited here would wait for nothing.
        pool_size=5,
        max_overflow=45,
        # isolation_level None: the driver leaves BEGIN to us.
        connect_args={"timeout": BUSY_SECONDS, "isolation_level": None} if sqlite else {},
    )
    if sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
        if not autocheckpoint:
            event.listen(engine, "connect", _leave_log_to_others)
        event.listen(engine, "begin", _begin_sqlite)
    _leave_connections_to_parent(engine)
    return engine


def session_factory(engine: Engine, *, read_only: bool = False) -> sessionmaker[Session]:
    """Makes sessions whose objects stay readable after the commit.

    `read_only=True` is for requests that only look: on SQLite they never wait for a writer.
    """
    bind = engine.execution_options(read_only=True) if read_only else engine
    return sessionmaker(bind, expire_on_commit=False)


def migrate(url: str) -> None:
    """Brings the tables to the newest form; any number of processes may call it at once.

    All of it or nothing happens. A SQLite file with something in it is first copied beside itself,
    as `<name>.before-<revision>`, when there is something to change.
    Raises Problem database_newer when a newer danlu made the database.
    """
    from alembic import command

    config = _alembic_config()
    path = files.path_of(url)
    with _locked(path) if path else nullcontext():
        engine = connect(url)
        try:
            head = _pending(engine)
            if head is None:
                return
            if path and _has_tables(engine):
                files.copy(path, path.with_name(f"{path.name}.before-{head}"))
            with engine.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        finally:
            engine.dispose()


def newest(current: Collection[str]) -> str | None:
    """The revision to bring tables at `current` to; None when they are there already.

    Raises Problem database_newer when this danlu does not know `current`.
    """
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_alembic_config())
    known = {script.revision for script in scripts.walk_revisions()}
    if unknown := sorted(set(current) - known):
        raise Problem(
            "database_newer",
            f"The database is at revision {', '.join(unknown)}, which this danlu does not know.",
        )
    head = scripts.get_current_head()
    return None if head in current else head


def did_not_answer(error: BaseException) -> bool:
    """Whether the database was locked, restarted or out of reach just then, so that the same may
    well work later.
    """
    if not isinstance(error, DBAPIError) or is_full(error):
        return False
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in _MOMENTS  # the other bytes go into detail
    return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)


def is_full(error: BaseException) -> bool:
    """Whether the database has no room left on its disk: SQLite says so in words (SQLITE_FULL),
    PostgreSQL by number (disk_full).
    """
    if not isinstance(error, OperationalError):
        return False
    return "disk is full" in str(error.orig) or getattr(error.orig, "sqlstate", None) == "53100"


def disk_refuses(error: BaseException) -> bool:
    """Whether SQLite cannot write its file, or not read or write it: waiting mends no such disk."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR)


def is_damaged(error: BaseException) -> bool:
    """Whether SQLite's file is not what it wrote: no retry mends it."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def identity(url: str) -> tuple[int, int] | None:
    """Which file the database is in, by device and inode; None while there is none, and for a
    database server. It changes when somebody deletes or replaces the home of a running program.
    """
    path = files.path_of(url)
    try:
        found = path.stat() if path else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found else None


def refuse_other_machines(url: str) -> None:
    """Raises Problem home_in_use when programs of another machine use this SQLite file: its
    write-ahead log lies in shared memory, which machines do not share, and would be lost.
    """
    if files.path_of(url) is None:
        return
    engine = connect(url)
    try:
        with session_factory(engine, read_only=True)() as session:
            others = processes.of_other_machines(session)
    finally:
        engine.dispose()
    if others:
        raise Problem(
            "home_in_use",
            f"Programs on {', '.join(others)} use this home, and SQLite works on one machine only.",
            hint="Stop them first (they are noticed for 15 s), or use a home on this machine.",
        )


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _leave_log_to_others(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA wal_autocheckpoint = 0")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads and then writes fails at once with SQLITE_BUSY_SNAPSHOT when another
    # wrote in between; taking the write lock first makes it wait its turn instead.
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _leave_connections_to_parent(engine: Engine) -> None:
    if not hasattr(os, "register_at_fork"):
        return
    engine_ref = weakref.ref(engine)
    inherited: list[object] = []  # neither used nor closed: both would disturb the parent

    def start_afresh() -> None:
        if (ours := engine_ref()) is not None:
            inherited.append(ours.pool)
            ours.dispose(close=False)

    os.register_at_fork(after_in_child=start_afresh)


def _to_json(value: object) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _alembic_config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _pending(engine: Engine) -> str | None:
    """The revision to go to, None when the database is there already."""
    from alembic.migration import MigrationContext

    with engine.connect() as connection:
        return newest(MigrationContext.configure(connection).get_current_heads())


def _has_tables(engine: Engine) -> bool:
    with engine.connect() as connection:
        return bool(inspect(connection).get_table_names())


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed, or its process is gone
        yield
