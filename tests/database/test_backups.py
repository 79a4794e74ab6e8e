import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from database import aliases, backups, checkpoints, files, ids, jobs, processes
from database.jobs import Fence, State

Sessions = sessionmaker[Session]
JobIn = Callable[..., tuple[str, Fence]]


@pytest.fixture
def path(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def save(sessions: Sessions, fence: Fence, epoch: int, accuracy: float) -> str:
    checkpoint_id = ids.new("ckpt")
    with sessions.begin() as session:
        assert checkpoints.add(
            session,
            fence,
            checkpoint_id=checkpoint_id,
            epoch=epoch,
            val_accuracy=accuracy,
            val_loss=1.0,
            disk_bytes=10,
        )
    return checkpoint_id


def test_what_is_in_a_database(
    path: Path, sessions: Sessions, job_in: JobIn, running: Fence
) -> None:
    saved = save(sessions, running, 1, 0.5)
    ended, _ = job_in(State.failed)
    with sessions.begin() as session:
        processes.seen(session, role="server", pid=7, host="塔")
        aliases.point(session, "production", saved, by="lin")

    found = backups.contents(path)

    assert found.jobs == {running.job_id: "running", ended: "failed"}
    assert found.checkpoint_ids == {saved}
    assert found.without_best == frozenset()
    assert found.aliases == {"production": saved}
    [seen] = found.processes
    assert (seen.role, seen.host, seen.pid) == ("server", "塔", 7)


def test_a_best_checkpoint_that_is_gone_is_noticed(
    path: Path, sessions: Sessions, running: Fence
) -> None:
    saved = save(sessions, running, 1, 0.5)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM checkpoints WHERE id = ?", (saved,))
        connection.commit()

    assert backups.contents(path).without_best == {running.job_id}


def test_a_file_without_our_tables_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE other (answer)")

    assert backups.revision(path) is None
    assert backups.contents(path) == backups.Contents()


def test_the_revision(path: Path) -> None:
    assert backups.revision(path)


def test_forgetting_checkpoints_chooses_another_best(
    path: Path, sessions: Sessions, running: Fence, tmp_path: Path
) -> None:
    good = save(sessions, running, 1, 0.8)
    better = save(sessions, running, 2, 0.9)

    copy = tmp_path / "copies" / "danlu.sqlite3"
    copy.parent.mkdir()
    files.copy(path, copy)

    backups.without(copy, [better])

    assert [file.name for file in copy.parent.iterdir()] == [copy.name]
    assert backups.contents(copy).checkpoint_ids == {good}
    with files.reading(copy) as connection:
        assert connection.execute("SELECT best_checkpoint_id FROM jobs").fetchall() == [(good,)]


def test_a_forgotten_checkpoint_takes_its_alias_along(
    path: Path, sessions: Sessions, running: Fence, tmp_path: Path
) -> None:
    kept, lost = (save(sessions, running, epoch, 0.9) for epoch in (1, 2))
    with sessions.begin() as session:
        for alias, checkpoint_id in (("production", lost), ("staging", kept)):
            aliases.point(session, alias, checkpoint_id, by="lin")

    copy = tmp_path / "copy.sqlite3"
    files.copy(path, copy)

    backups.without(copy, [lost])

    assert backups.contents(copy).aliases == {"staging": kept}


def test_a_database_of_before_there_were_aliases(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE aliases")

    assert backups.contents(path).aliases == {}


def test_jobs_at_work_begin_anew_and_nobody_is_alive(sessions: Sessions, job_in: JobIn) -> None:
    states = [State.running, State.starting, State.cancelling, State.succeeded, State.queued]
    made = {state: job_in(state)[0] for state in states}
    with sessions.begin() as session:
        processes.seen(session, role="supervisor", pid=7, host="here")

    with sessions.begin() as session:
        again = backups.begin_anew(session)

    assert again == sorted([made[State.running], made[State.starting]])
    with sessions() as session:
        found = {state: jobs.get(session, job_id) for state, job_id in made.items()}
        assert processes.alive(session) == []
    assert found[State.running].state == found[State.starting].state == State.queued
    assert found[State.running].attempt == 1
    assert found[State.running].worker_id is None
    assert found[State.cancelling].state == State.cancelled
    assert found[State.succeeded].state == State.succeeded


def test_a_worker_of_the_old_home_has_no_say_in_the_new_one(
    sessions: Sessions, running: Fence
) -> None:
    with sessions.begin() as session:
        backups.begin_anew(session)

    with sessions.begin() as session:
        assert jobs.heartbeat(session, running) is None
