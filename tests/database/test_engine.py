import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from database import engine as engines
from database import jobs
from database.tables import Base, Job
from problems import Problem

Sessions = sessionmaker[Session]


def run(code: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def query(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        rows: list[tuple[object, ...]] = connection.execute(statement).fetchall()
        connection.commit()
    return rows


@contextmanager
def connected(url: str, **given: bool) -> Iterator[Engine]:
    """An engine whose connections are closed again."""
    engine = engines.connect(url, **given)
    try:
        yield engine
    finally:
        engine.dispose()


def test_migrations_make_exactly_the_tables_of_the_code(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Base.metadata) == []


def test_a_new_database_and_its_folder_are_made(tmp_path: Path) -> None:
    path = tmp_path / "炉 100%" / "danlu.sqlite3"
    engines.migrate(f"sqlite:///{path}")
    assert query(path, "SELECT count(*) FROM jobs") == [(0,)]
    assert query(path, "PRAGMA journal_mode") == [("wal",)]
    assert not list(path.parent.glob("*before*")), "there was nothing to copy"


def test_migrating_again_changes_nothing(url: str, enqueue: Callable[..., Job]) -> None:
    enqueue()
    path = Path(url.removeprefix("sqlite:///"))
    engines.migrate(url)
    assert query(path, "SELECT count(*) FROM jobs") == [(1,)]
    assert not list(path.parent.glob("*before*"))


def test_what_was_there_is_copied_before_a_change(tmp_path: Path) -> None:
    path = tmp_path / "danlu.sqlite3"
    query(path, "CREATE TABLE precious AS SELECT 42 AS answer")
    engines.migrate(f"sqlite:///{path}")
    [copy] = tmp_path.glob("danlu.sqlite3.before-*")
    assert query(copy, "SELECT * FROM precious") == [(42,)]
    assert query(copy, "SELECT name FROM sqlite_master") == [("precious",)]
    assert query(path, "SELECT count(*) FROM jobs") == [(0,)]


def test_a_migration_that_fails_leaves_nothing_half_done(tmp_path: Path) -> None:
    path = tmp_path / "danlu.sqlite3"
    query(path, "CREATE TABLE steps (in_the_way)")
    with pytest.raises(Exception, match="steps already exists"):
        engines.migrate(f"sqlite:///{path}")
    assert query(path, "SELECT name FROM sqlite_master") == [("steps",)]


def test_three_processes_migrate_one_new_database(
    tmp_path: Path, at_once: Callable[..., object]
) -> None:
    path = tmp_path / "danlu.sqlite3"
    at_once("migrate", f"sqlite:///{path}", 3)
    assert len(query(path, "SELECT * FROM alembic_version")) == 1
    assert query(path, "SELECT count(*) FROM jobs") == [(0,)]


def test_a_newer_database_is_refused_and_left_alone(url: str) -> None:
    path = Path(url.removeprefix("sqlite:///"))
    query(path, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Problem) as caught:
        engines.migrate(url)
    assert caught.value.code == "database_newer"
    assert "9999" in caught.value.detail
    assert query(path, "SELECT * FROM alembic_version") == [("9999",)]


def test_importing_the_room_is_cheap() -> None:
    code = """
import sys
from database import checkpoints, engine, history, ids, jobs, processes
print({"alembic", "torch", "numpy"} & {*sys.modules})
"""
    out, err = run(code).communicate(timeout=60)
    assert (out, err) == ("set()\n", "")


def test_a_reader_does_not_wait_for_a_writer(
    engine: Engine, sessions: Sessions, enqueue: Callable[..., Job]
) -> None:
    job_id = enqueue().id
    readers = engines.session_factory(engine, read_only=True)
    with sessions.begin() as writing:
        jobs.cancel(writing, job_id)
        with readers() as reading:
            assert jobs.get(reading, job_id).state == jobs.State.queued


def test_reading_before_writing_never_meets_a_busy_snapshot(
    sessions: Sessions, enqueue: Callable[..., Job]
) -> None:
    job_id = enqueue(priority=0).id

    def raise_priority() -> None:
        for _ in range(20):
            with sessions.begin() as session:
                jobs.get(session, job_id).priority += 1

    threads = [threading.Thread(target=raise_priority) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with sessions() as session:
        assert jobs.get(session, job_id).priority == 80


def test_commits_of_an_engine_may_leave_the_log_to_others(url: str) -> None:
    path = Path(url.removeprefix("sqlite:///"))
    before = path.stat().st_size

    grown = []
    for autocheckpoint in (False, True):
        with (
            connected(url, autocheckpoint=autocheckpoint) as engine,
            engine.connect() as held,  # the last one to leave writes the log back
        ):
            fill(engine)
            grown.append(path.stat().st_size > before)
            held.rollback()

    assert grown == [False, True]


def fill(engine: Engine) -> None:
    """More than SQLite leaves in the log by itself, 4 MB."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS much AS SELECT zeroblob(5000000)"))
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO much SELECT zeroblob(5000000)"))


def test_a_database_that_is_locked_does_not_answer(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "BUSY_SECONDS", 0.05)
    with (
        connected(url) as one,
        connected(url) as other,
        one.begin(),
        pytest.raises(DBAPIError) as caught,
        other.begin(),
    ):
        pass

    assert engines.did_not_answer(caught.value)
    assert not engines.is_full(caught.value)


@pytest.mark.parametrize(
    ("statement", "full"),
    [("INSERT INTO much SELECT zeroblob(9000000)", True), ("SELECT * FROM nothing", False)],
)
def test_a_database_that_is_full_or_has_no_such_table_has_answered(
    engine: Engine, statement: str, full: bool
) -> None:
    fill(engine)
    with engine.connect() as connection:
        connection.execute(text("PRAGMA max_page_count = 3000"))
        with pytest.raises(OperationalError) as caught:
            connection.execute(text(statement))

    assert not engines.did_not_answer(caught.value)
    assert engines.is_full(caught.value) == full


def test_a_disk_that_takes_no_writes_is_told_from_a_full_one(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("PRAGMA query_only = 1"))
        with pytest.raises(OperationalError) as caught:
            connection.execute(text("CREATE TABLE filler (bytes)"))
        connection.execute(text("PRAGMA query_only = 0"))

    assert engines.disk_refuses(caught.value)
    assert not engines.is_full(caught.value)
    assert not engines.disk_refuses(OperationalError("SELECT", None, Refused()))


class Refused(Exception):
    """As a driver of PostgreSQL raises it."""

    def __init__(self, sqlstate: str | None = None) -> None:
        super().__init__("refused")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("error", "silent", "full"),
    [
        (OperationalError("SELECT", None, Refused()), True, False),
        (InterfaceError("SELECT", None, Refused()), True, False),
        (DBAPIError("SELECT", None, Refused(), connection_invalidated=True), True, False),
        (OperationalError("INSERT", None, Refused("53100")), False, True),
        (IntegrityError("INSERT", None, Refused("23505")), False, False),
        (OSError(28, "No space left on device"), False, False),
    ],
)
def test_a_database_server_that_restarts_does_not_answer(
    error: Exception, silent: bool, full: bool
) -> None:
    assert engines.did_not_answer(error) == silent
    assert engines.is_full(error) == full


def test_rows_of_a_job_need_their_job(engine: Engine) -> None:
    with engine.begin() as connection, pytest.raises(Exception, match=r"(?i)foreign key"):
        connection.execute(text("INSERT INTO job_tags VALUES ('a', 'job_none')"))


def test_what_a_session_gave_stays_readable_after_it(
    sessions: Sessions, enqueue: Callable[..., Job], claim: Callable[..., Job | None]
) -> None:
    made, claimed = enqueue(), claim()
    assert claimed is not None
    for job in (made, claimed):
        values = [getattr(job, column.key) for column in Job.__table__.columns]
        assert values[:2] == [made.id, "train"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_fork_leaves_the_connections_to_its_parent(migrated: Path, tmp_path: Path) -> None:
    path = tmp_path / "danlu.sqlite3"
    shutil.copyfile(migrated, path)
    code = """
import os, sys
from database import engine, jobs
pool = engine.connect(sys.argv[1])
sessions = engine.session_factory(pool)
def enqueue():
    with sessions.begin() as session:
        jobs.enqueue(session, kind="train", dataset="d", recipe={}, owner="o")
enqueue()
theirs = pool.pool
child = os.fork()
if child == 0:
    assert pool.pool is not theirs
    for _ in range(20):
        enqueue()
    os._exit(0)
for _ in range(20):
    enqueue()
assert pool.pool is theirs
assert os.waitpid(child, 0)[1] == 0
"""
    assert run(code, f"sqlite:///{path}").communicate(timeout=60) == ("", "")
    assert query(path, "SELECT count(*) FROM jobs") == [(41,)]
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
