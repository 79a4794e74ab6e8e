"""What an older database holds is kept; the newest form of the tables: `test_engine`."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy.orm import Session, sessionmaker

from database import checkpoints, engine, events, history, idempotency, jobs, processes, queue
from database.jobs import State
from database.leases import Watch
from database.tables import Base

Row = dict[str, object]
ERROR = {"code": "disk_full", "message": "磁盘满了", "hint": None}
JOB: Row = {
    "kind": "train",
    "owner": "lin",
    "name": "数字",
    "tags": '["a", "猫"]',
    "priority": 2,
    "dataset_name": "digits",
    "dataset_version": "v1",
    "recipe": '{"epochs": 3}',
    "attempt": 2,
    "losses": 1,
    "claim": 4,
    "metrics": '{"train_loss": 0.5}',
    "warnings": "[]",
    "best_val_accuracy": 0.75,
    "disk_bytes": 7,
    "created_at": "2026-01-01 12:00:00.000000",
}
WORKER: Row = {
    "claimed_at": 1767268800.0,
    "lease_until": 1767268810.0,
    "device": "cuda:0",
    "worker_id": "w1",
    "worker_host": "here",
    "worker_pid": 7,
    "progress": '{"epoch": 1}',
    "started_at": "2026-01-01 12:00:01.000000",
}
OVER: Row = {
    "started_at": "2026-01-01 12:00:01.000000",
    "finished_at": "2026-01-01 12:30:00.000000",
    "best_checkpoint_id": "ckpt_1",
}
OF_STATE: dict[State, Row] = {
    State.queued: {},
    State.starting: WORKER,
    State.running: WORKER,
    State.cancelling: WORKER,
    State.succeeded: OVER | {"stop_reason": "early_stopping"},
    State.failed: OVER | {"error": json.dumps(ERROR)},
    State.cancelled: {},  # in the queue, before anyone noted when
}


def insert(connection: sqlite3.Connection, table: str, row: Row) -> None:
    columns = ", ".join(row)
    values = ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({values})", [*row.values()])


def fill(connection: sqlite3.Connection) -> None:
    """A job of every state, with rows in every table."""
    for state, row in OF_STATE.items():
        job_id = f"job_{state}"
        insert(connection, "jobs", JOB | row | {"id": job_id, "state": state.value})
        for tag in ("a", "猫"):
            insert(connection, "job_tags", {"job_id": job_id, "tag": tag})
        insert(connection, "epochs", {"job_id": job_id, "attempt": 1, "epoch": 1, "lr": 0.1})
        insert(connection, "steps", {"job_id": job_id, "step": 10, "epoch": 1})
    saved = {"id": "ckpt_1", "job_id": "job_succeeded", "epoch": 1, "disk_bytes": 7}
    insert(connection, "checkpoints", saved | {"created_at": "2026-01-01 12:10:00.000000"})
    process = {"host": "here", "pid": 7, "role": "child", "info": "{}", "seen_at": 1767268800.0}
    insert(connection, "processes", process)


def contents(path: Path, tables: list[str]) -> dict[str, list[Row]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return {
            table: [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")]
            for table in tables
        }


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A database as revision 0001 had it."""
    path = tmp_path / "danlu.sqlite3"
    config = Config()
    config.set_main_option("script_location", str(Path(engine.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    database = engine.connect(f"sqlite:///{path}")
    with database.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    database.dispose()
    with closing(sqlite3.connect(path)) as connection:
        fill(connection)
        connection.commit()
    return path


@pytest.fixture
def sessions(before: Path) -> Iterator[sessionmaker[Session]]:
    """Of that database, brought to the newest form."""
    engine.migrate(f"sqlite:///{before}")
    database = engine.connect(f"sqlite:///{before}")
    yield engine.session_factory(database)
    database.dispose()


def test_every_row_is_kept(before: Path) -> None:
    tables = ["jobs", "job_tags", "epochs", "steps", "checkpoints", "processes"]
    old = contents(before, tables)
    engine.migrate(f"sqlite:///{before}")
    new = contents(before, tables)
    assert len(old["jobs"]) == len(State)
    for row in old["jobs"]:
        del row["lease_until"]
    for row in new["jobs"]:
        assert (row.pop("interrupted"), row.pop("finishing"), row.pop("beat")) == (0, 0, 0)
        assert row.pop("request") is None
    assert [row.pop("parity") for row in new["checkpoints"]] == [None]
    assert new == old
    [copy] = before.parent.glob("danlu.sqlite3.before-*")
    assert len(contents(copy, ["jobs"])["jobs"]) == len(State)


def test_the_tables_are_those_of_the_code(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        context = MigrationContext.configure(
            session.connection(), opts={"compare_server_default": True}
        )
        assert compare_metadata(context, Base.metadata) == []


def test_who_listens_to_a_job_that_had_ended_hears_so(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        found = events.since(session, 0, limit=100)
    assert {event.type for event in found} == {"end"}
    assert {event.job_id: event.data for event in found} == {
        "job_succeeded": {
            "state": "succeeded",
            "attempt": 2,
            "stop_reason": "early_stopping",
            "error": None,
        },
        "job_failed": {"state": "failed", "attempt": 2, "stop_reason": None, "error": ERROR},
        "job_cancelled": {"state": "cancelled", "attempt": 2, "stop_reason": None, "error": None},
    }
    times = {event.job_id: event.created_at for event in found}
    assert times["job_failed"] == datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
    assert times["job_cancelled"] == datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_each_job_goes_on_from_where_it_was(sessions: sessionmaker[Session]) -> None:
    """Whoever was at work when the old danlu stopped is not heard of any more."""
    watch = Watch(sessions, sessions)
    lost = [job_id for now in range(0, 14, 2) for job_id in watch.give_up_silent(now)]
    assert sorted(lost) == ["job_cancelling", "job_running", "job_starting"]
    with sessions.begin() as session:
        states = {job.id: job.state for job in jobs.find(session).items}
        assert states == {f"job_{state}": state for state in State} | {
            "job_starting": State.queued,
            "job_running": State.queued,
            "job_cancelling": State.cancelled,
        }
        assert len(queue.positions(session)) == 3
        job = jobs.claim(session, worker_id="w2", host="here", device=None)
        assert job is not None
        assert job.claim == 5
        assert jobs.resume(session, "job_failed").state == State.queued
        idempotency.remember(session, owner="lin", key="k", digest="d", job_id="job_queued")


def test_a_job_of_before_is_read_and_removed_as_any_other(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        job = jobs.get(session, "job_succeeded")
        assert (job.name, job.tags, job.recipe) == ("数字", ["a", "猫"], {"epochs": 3})
        assert job.finished_at == datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
        assert [row.lr for row in history.epochs(session, job.id)] == [0.1]
        assert processes.alive(session) == []
        assert jobs.remove(session, job.id) == ["ckpt_1"]
        assert history.epochs(session, "job_succeeded") == []
        assert checkpoints.of_job(session, "job_succeeded") == []
        gone = events.since(session, 0, job_id="job_succeeded", limit=9)
        assert gone == []
