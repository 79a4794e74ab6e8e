"""What is left of children that are gone: how their jobs are said to have ended, and remains."""

import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError

from database import jobs
from database.jobs import Fence, State
from models_store import exports
from settings import Settings
from tests.workers.stage import Play, Stage, at_once, reasons, succeed
from workers import processes, supervisor
from workers.supervisor import Supervisor
from workers.task import Task

Until = Callable[..., Any]
Run = Callable[..., list[BaseException]]
HERE = socket.gethostname()


def test_the_exit_of_an_earlier_claim_is_not_believed(stage: Stage, run: Run, until: Until) -> None:
    def second_time_lucky(given: Task, channel: Connection) -> None:
        outcome = {"claim": 0, "state": "succeeded", "stop_reason": None, "error": None}
        processes.write(given.run / processes.EXIT_FILE, outcome)
        if given.fence.claim == 2:
            succeed(given)

    job_id = stage.submit("odd", second_time_lucky)
    run()
    until(lambda: stage.state(job_id) == State.succeeded)

    assert (stage.job(job_id).attempt, stage.job(job_id).losses) == (2, 1)


@pytest.mark.parametrize(
    ("code", "reason"),
    [(-11, "its process was ended by signal 11 (Segmentation fault)"), (3, "with exit code 3")],
)
def test_a_loss_is_told_with_its_signal_or_code(
    stage: Stage, run: Run, until: Until, code: int, reason: str
) -> None:
    def crash_once(given: Task, channel: Connection) -> None:
        if given.fence.claim == 1:
            stage.started[-1].exitcode = code
        else:
            succeed(given)

    job_id = stage.submit("crashing", crash_once)
    run()
    until(lambda: stage.state(job_id) == State.succeeded)

    (told,) = reasons(stage, job_id)
    assert reason in told
    assert (stage.job(job_id).attempt, stage.job(job_id).losses) == (2, 1)


def test_a_child_that_could_not_write_how_it_ended_met_a_full_disk(
    stage: Stage, run: Run, until: Until
) -> None:
    def fill(given: Task, channel: Connection) -> None:
        stage.started[-1].exitcode = processes.UNWRITTEN

    job_id = stage.submit("filling", fill)
    run()
    until(lambda: stage.state(job_id) == State.failed)

    error = stage.job(job_id).error
    assert error is not None
    assert error["code"] == "disk_full"
    assert stage.job(job_id).attempt == 1


def test_a_child_that_gives_its_job_back_begins_again_and_nothing_is_counted(
    stage: Stage, run: Run, until: Until
) -> None:
    def give_back_once(given: Task, channel: Connection) -> None:
        if given.fence.claim == 1:
            processes.write(given.run / processes.EXIT_FILE, {"claim": 1, "state": "released"})
        else:
            succeed(given)

    job_id = stage.submit("orphan", give_back_once)
    run()
    until(lambda: stage.state(job_id) == State.succeeded)

    assert (stage.job(job_id).attempt, stage.job(job_id).losses) == (1, 0)


class FullDisk:
    """Where no job's row can be written while it is full; counts the tries."""

    def __init__(self, engine: Engine) -> None:
        self.is_full = False
        self.tries = 0
        event.listen(engine, "before_cursor_execute", self._refuse)

    def _refuse(self, connection: object, cursor: object, statement: str, *_: object) -> None:
        if self.is_full and statement.startswith("UPDATE jobs"):
            self.tries += 1
            raise sqlite3.OperationalError("database or disk is full")


@pytest.fixture
def full_disk(engine: Engine, run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[FullDisk]:
    """Written to again once the test is over."""
    monkeypatch.setattr(supervisor, "TROUBLE_SECONDS", 0.05)
    disk = FullDisk(engine)
    yield disk
    disk.is_full = False


@pytest.fixture
def somebody() -> Iterator[subprocess.Popen[bytes]]:
    """A process, and the group that it leads, that no worker has to do with."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        yield process
        process.kill()


# Elsewhere nobody is taken for running (`processes.is_running`), so there is nothing to show.
@pytest.mark.skipif(sys.platform != "linux", reason="who is running is read from /proc")
def test_a_number_that_is_somebody_elses_by_now_is_neither_killed_nor_believed(
    stage: Stage,
    run: Run,
    until: Until,
    full_disk: FullDisk,
    somebody: subprocess.Popen[bytes],
) -> None:
    """The disk is full for a whole night: how the jobs ended cannot be written."""
    over = threading.Event()

    def crash_once(given: Task, channel: Connection) -> None:
        if given.fence.claim == 1:
            over.wait()
        else:
            succeed(given)

    both = [stage.submit(name, crash_once) for name in ("one", "two")]
    run(jobs_per_device=2)
    until(lambda: stage.state(both[1]) == State.starting)
    full_disk.is_full = True
    over.set()
    until(lambda: full_disk.tries > 1 and not any(one.is_alive() for one in stage.started))
    until(lambda seen=full_disk.tries: full_disk.tries > seen + 1)  # a whole turn since
    for child in stage.started[1:]:  # after the probe's
        child.pid = somebody.pid
    until(lambda seen=full_disk.tries: full_disk.tries > seen + 3)
    full_disk.is_full = False
    until(lambda: all(stage.state(one) == State.succeeded for one in both))

    assert somebody.poll() is None
    assert [(stage.job(one).attempt, stage.job(one).losses) for one in both] == [(2, 1)] * 2


def test_nor_is_it_when_the_worker_stops(
    stage: Stage,
    engine: Engine,
    url: str,
    until: Until,
    tmp_path: Path,
    full_disk: FullDisk,
    somebody: subprocess.Popen[bytes],
) -> None:
    def fill(given: Task, channel: Connection) -> None:
        full_disk.is_full = True
        succeed(given)

    stage.submit("train", fill)
    one = Supervisor(Settings(home=tmp_path, database_url=url), engine)
    errors: list[SQLAlchemyError] = []

    def supervise() -> None:
        try:
            one.run()
        except SQLAlchemyError as error:
            errors.append(error)

    thread = threading.Thread(target=supervise)
    thread.start()
    until(lambda: full_disk.tries > 1)
    stage.started[1].pid = somebody.pid
    one.stop()
    thread.join(20)

    assert len(errors) == 1  # the next worker reads how the job ended
    assert somebody.poll() is None


def left(home: Path) -> set[str]:
    """What is beside the data sets, and they."""
    return {path.name for path in (home / "datasets").iterdir()}


def test_half_a_data_set_of_a_job_that_is_over_is_swept(
    stage: Stage, run: Run, until: Until, tmp_path: Path
) -> None:
    seen: list[set[str]] = []

    def look(given: Task, channel: Connection) -> None:
        seen.append({name for name in left(tmp_path) if not name.startswith(".swept-")})
        succeed(given)

    job_id = stage.submit("importing", look, kind="import")
    for name in (f".import-{job_id}.1", ".import-job_unknown.1", ".swept-1", "pets"):
        (tmp_path / "datasets" / name).mkdir(parents=True)
    run()
    until(lambda: stage.state(job_id) == State.succeeded)

    assert seen == [{f".import-{job_id}.1", "pets"}]
    until(lambda: left(tmp_path) == {"pets"})


class SlowDisk:
    """Removes no folder until it `may`; notes those that it has `begun` with."""

    def __init__(self) -> None:
        self._remove = shutil.rmtree
        self.may = threading.Event()
        self.begun: list[Path] = []

    def rmtree(self, folder: Path, **given: Any) -> None:
        self.begun.append(folder)
        self.may.wait()
        self._remove(folder, **given)


@pytest.fixture
def slow_disk(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    """Fast once the test is over, for the supervisor to end."""
    disk = SlowDisk()
    monkeypatch.setattr(shutil, "rmtree", disk.rmtree)
    yield disk
    disk.may.set()


def cancelled(home: Path, *, replacing: str | None = None) -> Play:
    """An import that is killed once a cancel was asked for; `replacing` a set, between two renames:
    the old set has left its place, and the new one has not taken it.
    """

    def play(given: Task, channel: Connection) -> None:
        folder = home / f"datasets/.import-{given.fence.job_id}.{given.fence.claim}"
        (folder / "set/cat").mkdir(parents=True)
        if replacing:
            (folder / "old" / replacing).mkdir(parents=True)
        say(home, given.fence, "cancelled")

    return play


def test_while_half_a_data_set_is_removed_all_else_goes_on(
    stage: Stage, run: Run, until: Until, tmp_path: Path, slow_disk: SlowDisk
) -> None:
    first = stage.submit("first", cancelled(tmp_path), kind="import")
    run()
    until(lambda: slow_disk.begun)
    assert stage.state(first) == State.cancelled

    train = stage.submit("train", at_once)
    until(lambda: stage.state(train) == State.succeeded, seconds=10)
    second = stage.submit("second", cancelled(tmp_path), kind="import")
    until(lambda: stage.state(second) == State.cancelled, seconds=10)

    until(lambda: not {name for name in left(tmp_path) if name.startswith(".import-")})
    assert len(slow_disk.begun) == 1  # the second one waits
    slow_disk.may.set()
    until(lambda: left(tmp_path) == set())


def test_half_a_data_set_of_an_earlier_worker_keeps_no_job_waiting(
    stage: Stage, run: Run, until: Until, tmp_path: Path, slow_disk: SlowDisk
) -> None:
    (tmp_path / "datasets/.import-job_unknown.1/set").mkdir(parents=True)
    job_id = stage.submit("train", at_once)
    run()
    until(lambda: stage.state(job_id) == State.succeeded, seconds=10)

    slow_disk.may.set()
    until(lambda: left(tmp_path) == set())


def test_a_set_that_a_killed_import_had_moved_is_back_before_the_next_import_begins(
    stage: Stage, run: Run, until: Until, tmp_path: Path, slow_disk: SlowDisk
) -> None:
    """However long what was swept before takes: else a merge would find nothing to add to."""
    (tmp_path / "datasets/.import-job_unknown.1/set").mkdir(parents=True)
    seen: list[bool] = []

    def look(given: Task, channel: Connection) -> None:
        seen.append((tmp_path / "datasets/pets").is_dir())
        succeed(given)

    replacing = stage.submit("replacing", cancelled(tmp_path, replacing="pets"), kind="import")
    run()
    until(lambda: stage.state(replacing) == State.cancelled)
    merging = stage.submit("merging", look, kind="import")
    until(lambda: stage.state(merging) == State.succeeded)

    assert seen == [True]
    slow_disk.may.set()
    until(lambda: left(tmp_path) == {"pets"})


def test_half_an_export_goes_with_the_process_that_was_killed(
    stage: Stage, run: Run, until: Until, tmp_path: Path
) -> None:
    store = tmp_path / "checkpoints"
    drafts: list[Any] = []
    left: list[list[Path]] = []

    def killed_once(given: Task, channel: Connection) -> None:
        left.append(list(store.glob("*")))
        if drafts:
            succeed(given)
        else:
            drafts.append(exports.unfinished(store, given.fence.job_id, given.fence.claim))
            drafts[0].__enter__()  # and never left

    job_id = stage.submit("export", killed_once, kind="export")
    run()
    until(lambda: stage.state(job_id) == State.succeeded)

    assert left == [[], []]


def test_the_archive_of_an_import_goes_with_its_last_attempt(
    stage: Stage, run: Run, until: Until, tmp_path: Path
) -> None:
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    seen: list[bool] = []

    def look(given: Task, channel: Connection) -> None:
        seen.append((uploads / "a").exists())

    job_id = stage.submit("importing", look, kind="import", upload="a")
    for name in ("a", "b"):
        (uploads / name).write_bytes(b"x")
    run()
    until(lambda: stage.state(job_id) == State.failed)

    assert seen == [True] * 3
    until(lambda: [path.name for path in uploads.iterdir()] == ["b"])


def left_by_another(stage: Stage, name: str, *, host: str = HERE) -> Fence:
    """A job that an earlier worker was at."""
    job_id = stage.submit(name, at_once)
    with stage.sessions.begin() as session:
        job = jobs.claim(session, worker_id="earlier", host=host, device="cpu")
        assert job is not None
        assert job.id == job_id
        return jobs.fence_of(job)


def say(home: Path, fence: Fence, state: str) -> None:
    run = home / "runs" / fence.job_id
    run.mkdir(parents=True, exist_ok=True)
    processes.write(run / processes.EXIT_FILE, {"claim": fence.claim, "state": state})


def began(home: Path, fence: Fence) -> None:
    """Its process left a record, and is gone: 0 is nobody's pid."""
    run = home / "runs" / fence.job_id
    run.mkdir(parents=True, exist_ok=True)
    record = {"pid": 0, "started": "1", "boot": "earlier", "host": HERE}
    processes.write(run / processes.PROCESS_FILE, record)


def test_what_an_earlier_worker_left_is_settled_at_once(
    stage: Stage, run: Run, until: Until, tmp_path: Path
) -> None:
    names = ("done", "given back", "lost", "elsewhere", "older", "never began")
    done, given_back, lost, elsewhere, older, never_began = (
        left_by_another(stage, name, host="there" if name == "elsewhere" else HERE)
        for name in names
    )
    began(tmp_path, lost)
    began(tmp_path, older)
    say(tmp_path, done, "succeeded")
    say(tmp_path, given_back, "released")
    say(tmp_path, elsewhere, "succeeded")  # may be at work
    say(tmp_path, replace(older, claim=0), "succeeded")

    run()  # returns once it is ready to claim, with all of that behind it

    again = (given_back, lost, older, never_began)
    until(lambda: all(stage.state(one.job_id) == "succeeded" for one in again))
    assert stage.state(done.job_id) == State.succeeded
    assert stage.state(elsewhere.job_id) == State.starting
    seen = {
        name: (stage.job(fence.job_id).attempt, stage.job(fence.job_id).claim)
        for name, fence in (
            ("done", done),
            ("given back", given_back),
            ("lost", lost),
            ("older", older),
            ("never began", never_began),
        )
    }
    assert seen == {
        "done": (1, 1),
        "given back": (1, 2),
        "lost": (2, 2),
        "older": (2, 2),
        "never began": (1, 2),
    }
    assert reasons(stage, lost.job_id) == ["ended with all of its worker"]


def test_a_record_of_a_settled_claim_does_not_stay(
    stage: Stage, run: Run, until: Until, tmp_path: Path
) -> None:
    left: list[bool] = []

    def twice(given: Task, channel: Connection) -> None:
        left.append((given.run / processes.PROCESS_FILE).exists())
        began(tmp_path, given.fence)
        if len(left) == 2:
            succeed(given)

    job_id = stage.submit("train", twice)
    run()
    until(lambda: stage.state(job_id) == State.succeeded)

    assert left == [False, False]
    assert stage.job(job_id).attempt == 2


@pytest.mark.skipif(sys.platform != "linux", reason="when a process began is read from /proc")
def test_a_child_that_an_earlier_worker_left_is_ended_and_nothing_is_counted(
    stage: Stage, run: Run, until: Until, tmp_path: Path
) -> None:
    fence = left_by_another(stage, "at work")
    say(tmp_path, fence, "nothing that is known")
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as child:
        record = dict(processes.describe(child.pid, HERE))
        processes.write(tmp_path / "runs" / fence.job_id / processes.PROCESS_FILE, record)

        run()
        until(lambda: stage.state(fence.job_id) == State.succeeded)

        assert child.wait(10) == -signal.SIGKILL
    assert (stage.job(fence.job_id).attempt, stage.job(fence.job_id).claim) == (1, 2)
