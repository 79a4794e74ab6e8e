"""The supervisor with threads in place of its children: what is rare or a race with real ones.

The real ones are in test_supervisor.py.
"""

import itertools
import multiprocessing
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session, sessionmaker

from database import events, jobs
from database import processes as process_rows
from database.jobs import Fence, State
from database.leases import LEASE_SECONDS
from problems import Problem
from settings import Settings
from workers import processes, supervisor, task
from workers.supervisor import Supervisor
from workers.task import Task

Sessions = sessionmaker[Session]
Until = Callable[..., Any]
Play = Callable[[Task, Connection], None]
HERE = socket.gethostname()
# Above the highest pid that there can be: a signal to one of these reaches nobody.
PIDS = itertools.count(2**23)


class Process:
    """A thread with what the supervisor uses of a process."""

    def __init__(self, *, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.sentinel, self._end = Pipe(duplex=False)
        self.pid = next(PIDS)
        self.exitcode = 1
        self.killed = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(target, args), daemon=True)

    def _run(self, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        target(*args)
        self._end.close()

    def start(self) -> None:
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()

    def kill(self) -> None:
        self.killed.set()


@dataclass
class Stage:
    """What children do: `plays` by the name of the job's data set; and what came of it."""

    sessions: Sessions
    devices: list[str] = field(default_factory=lambda: ["cpu"])
    plays: dict[str, Play] = field(default_factory=dict)
    started: list[Process] = field(default_factory=list)

    def submit(
        self, name: str, play: Play, *, kind: str = "train", devices: int = 1, **request: Any
    ) -> str:
        self.plays[name] = play
        asked = {"devices": devices} if kind == "train" else None
        with self.sessions.begin() as session:
            return jobs.enqueue(
                session, kind=kind, dataset=name, recipe=asked, request=request, owner="lin"
            ).id

    def job(self, job_id: str) -> jobs.Job:
        with self.sessions() as session:
            return jobs.get(session, job_id)

    def state(self, job_id: str) -> State:
        return self.job(job_id).state

    def work(self, given: Task, host: str, channel: Connection) -> None:
        given.run.mkdir(parents=True, exist_ok=True)
        self.plays[str(self.job(given.fence.job_id).dataset_name)](given, channel)
        channel.close()

    def probe(self, channel: Connection, checkpoints: Path, known: frozenset[str]) -> None:
        channel.send((self.devices, 4, 1))

    def process(self, **given: Any) -> Process:
        self.started.append(Process(**given))
        return self.started[-1]


class Ends:
    """The ends of a pipe; those that cross to a child stay open, as if copied."""

    def __init__(self) -> None:
        self.ours, theirs = Pipe()
        self.theirs = Crossing(theirs)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.ours, self.theirs))


class Crossing:
    def __init__(self, end: Connection) -> None:
        self.end = end

    def close(self) -> None:
        pass


@pytest.fixture
def stage(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage(sessions)

    class Context:
        Pipe = Ends

        @staticmethod
        def Process(*, target: Any, args: tuple[Any, ...]) -> Process:
            crossed = tuple(one.end if isinstance(one, Crossing) else one for one in args)
            return stage.process(target=target, args=crossed)

    monkeypatch.setattr(multiprocessing, "get_context", lambda _: Context)
    monkeypatch.setattr(task, "work", stage.work)
    monkeypatch.setattr(task, "probe", stage.probe)
    return stage


@pytest.fixture
def run(
    stage: Stage, engine: Engine, url: str, tmp_path: Path, until: Until
) -> Iterator[Callable[..., list[BaseException]]]:
    """Starts the supervisor in a thread; gives the list that its error goes to."""
    running: list[tuple[Supervisor, threading.Thread]] = []

    def run(*, lease_seconds: float = LEASE_SECONDS, **given: Any) -> list[BaseException]:
        errors: list[BaseException] = []
        settings = Settings(home=tmp_path, database_url=url, **given)
        one = Supervisor(settings, engine, lease_seconds=lease_seconds)

        def supervise() -> None:
            try:
                one.run()
            except BaseException as error:
                errors.append(error)

        running.append((one, threading.Thread(target=supervise)))
        running[-1][1].start()
        until(lambda: stage.started and not stage.started[0].is_alive())
        return errors

    yield run
    for one, thread in running:
        one.stop()
        thread.join(20)
        assert not thread.is_alive()


Run = Callable[..., list[BaseException]]


def succeed(given: Task) -> None:
    outcome = {"claim": given.fence.claim, "state": "succeeded", "stop_reason": None, "error": None}
    processes.write(given.run / processes.EXIT_FILE, outcome)


def at_once(given: Task, channel: Connection) -> None:
    succeed(given)


def die(given: Task, channel: Connection) -> None:
    """Without a word."""


def start(stage: Stage, fence: Fence) -> None:
    with stage.sessions.begin() as session:
        assert jobs.start(session, fence, pid=7, device="cpu")


@pytest.mark.parametrize("how", ["gives its device up", "ends"])
def test_a_job_that_waits_for_a_device_goes_before_those_in_the_queue(
    stage: Stage, run: Run, until: Until, how: str
) -> None:
    downloaded, trained = threading.Event(), threading.Event()
    asked, over, devices = threading.Event(), threading.Event(), []

    def download(given: Task, channel: Connection) -> None:
        channel.send("give up")
        downloaded.wait()
        channel.send("take")
        asked.set()
        devices.append(channel.recv())
        succeed(given)

    def train(given: Task, channel: Connection) -> None:
        trained.wait()
        if how != "ends":
            channel.send("give up")
            over.wait()
        succeed(given)

    first = stage.submit("download", download)
    second = stage.submit("train", train)
    third = stage.submit("late", at_once)
    run()
    until(lambda: stage.state(second) == State.starting)
    downloaded.set()
    asked.wait()
    assert devices == []

    trained.set()
    until(lambda: stage.state(third) == State.succeeded)

    over.set()
    assert devices == [("cpu",)]
    assert stage.job(first).finished_at < stage.job(third).finished_at


def test_a_job_gets_all_of_its_devices_and_is_not_overtaken_while_it_waits(
    stage: Stage, run: Run, until: Until
) -> None:
    stage.devices = ["cuda:0", "cuda:1", "cuda:2"]
    over, seen = threading.Event(), []

    def hold(given: Task, channel: Connection) -> None:
        over.wait()
        succeed(given)

    def look(given: Task, channel: Connection) -> None:
        seen.append((given.devices, stage.job(given.fence.job_id).device))
        succeed(given)

    first = stage.submit("first", hold)
    three = stage.submit("three", look, devices=3)
    late = stage.submit("late", at_once)
    run()
    until(lambda: stage.state(first) == State.starting)
    time.sleep(0.3)  # two devices are free, and one job would do with one
    assert [stage.state(one) for one in (three, late)] == [State.queued, State.queued]

    over.set()
    until(lambda: stage.state(late) == State.succeeded)

    assert seen == [(("cuda:0", "cuda:1", "cuda:2"), "cuda:0,cuda:1,cuda:2")]
    assert stage.job(three).finished_at <= stage.job(late).finished_at


def test_a_job_that_needs_several_again_is_not_overtaken_by_one_that_needs_one(
    stage: Stage, run: Run, until: Until
) -> None:
    stage.devices = ["cuda:0", "cuda:1"]
    held, downloaded, asked = threading.Event(), threading.Event(), threading.Event()
    devices: list[tuple[str, ...]] = []

    def download(given: Task, channel: Connection) -> None:
        channel.send("give up")
        downloaded.wait()
        channel.send("take")
        asked.set()
        devices.append(channel.recv())
        succeed(given)

    def hold(given: Task, channel: Connection) -> None:
        held.wait()
        succeed(given)

    two = stage.submit("two", download, devices=2)
    holding = stage.submit("holding", hold)
    run()
    until(lambda: stage.state(holding) == State.starting)
    downloaded.set()
    asked.wait()
    late = stage.submit("late", at_once)
    time.sleep(0.3)
    assert (devices, stage.state(late)) == ([], State.queued)

    held.set()
    until(lambda: stage.state(late) == State.succeeded)

    assert sorted(devices[0]) == ["cuda:0", "cuda:1"]
    assert stage.job(two).finished_at <= stage.job(late).finished_at


def test_processes_on_the_cpu_share_one_place_and_all_are_shown(
    stage: Stage, run: Run, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.05)
    over, seen = threading.Event(), []

    def look(given: Task, channel: Connection) -> None:
        seen.append(given.devices)
        channel.send([next(PIDS), next(PIDS)])
        over.wait()
        succeed(given)

    def children() -> list[tuple[str | None, str | None]]:
        with stage.sessions() as session:
            rows = process_rows.alive(session)
        return [(row.job_id, row.device) for row in rows if row.role == "child"]

    job_id = stage.submit("three", look, devices=3)
    too_many = stage.submit("five", look, devices=5)  # there are four cores
    run()

    until(lambda: children() == [(job_id, "cpu")] * 3)
    with stage.sessions() as session:
        told = [one.info for one in process_rows.alive(session) if one.role == "supervisor"]
    assert (told[0]["devices"], told[0]["cores"]) == (["cpu"], 4)
    assert stage.job(job_id).device == "cpu"
    over.set()
    until(lambda: stage.state(too_many) == State.succeeded)
    assert seen == [("cpu",) * 3, ("cpu",)]
    until(lambda: children() == [])


def test_old_parts_of_downloads_are_swept_and_mirrors_are_handed_on(
    stage: Stage, run: Run, until: Until, tmp_path: Path
) -> None:
    old, new = (tmp_path / "weights" / f"{name}.pth.part" for name in ("old", "new"))
    for part in (old, new):
        part.parent.mkdir(exist_ok=True)
        part.touch()
    os.utime(old, (0, 0))
    given: list[Task] = []

    def look(task: Task, channel: Connection) -> None:
        given.append(task)
        at_once(task, channel)

    job_id = stage.submit("look", look)
    run(mirror="http://a/,http://b")
    until(lambda: stage.state(job_id) == State.succeeded)

    assert (old.exists(), new.exists()) == (False, True)
    assert given[0].mirrors == ("http://a/", "http://b/")


@pytest.mark.parametrize("last_words", [["give up"], ["give up", "take"], ["give up", "take", "?"]])
def test_a_child_that_dies_without_its_device_leaves_it_free(
    stage: Stage, run: Run, until: Until, last_words: list[str]
) -> None:
    def die_waiting(given: Task, channel: Connection) -> None:
        for word in last_words:
            channel.send(word)

    dying = stage.submit("dying", die_waiting)
    run()
    until(lambda: stage.state(dying) == State.failed)
    fine = stage.submit("fine", at_once)
    until(lambda: stage.state(fine) == State.succeeded)

    assert stage.job(dying).error == stage.job(dying).error | {"code": "worker_lost"}
    assert (stage.job(dying).attempt, stage.job(dying).losses) == (3, 3)


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


def test_a_child_that_never_comes_up_is_killed(
    stage: Stage, run: Run, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "START_SECONDS", 0.2)
    monkeypatch.setattr(supervisor, "WATCH_SECONDS", 0.05)

    def hang(given: Task, channel: Connection) -> None:
        stage.started[-1].killed.wait()

    job_id = stage.submit("hanging", hang)
    run()

    until(lambda: stage.state(job_id) == State.failed)
    assert all(process.killed.is_set() for process in stage.started[1:])


def reasons(stage: Stage, job_id: str) -> list[str]:
    """What people were told of why the job came back."""
    with stage.sessions() as session:
        told = events.since(session, 0, job_id=job_id, limit=1000)
    return [one.data["reason"] for one in told if "reason" in one.data]


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


def test_half_a_data_set_of_a_job_that_is_over_is_swept(
    stage: Stage, run: Run, until: Until, tmp_path: Path
) -> None:
    def left() -> set[str]:
        return {path.name for path in (tmp_path / "datasets").iterdir()}

    seen: list[set[str]] = []

    def look(given: Task, channel: Connection) -> None:
        seen.append(left())
        succeed(given)

    job_id = stage.submit("importing", look, kind="import")
    for name in (f".import-{job_id}.1", ".import-job_unknown.1", "pets"):
        (tmp_path / "datasets" / name).mkdir(parents=True)
    run()
    until(lambda: stage.state(job_id) == State.succeeded)

    assert seen == [{f".import-{job_id}.1", "pets"}]
    until(lambda: left() == {"pets"})


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


def test_a_child_that_falls_silent_is_given_up_killed_and_begins_again(
    stage: Stage, run: Run, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when somebody has stopped its process."""
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(supervisor, "WATCH_SECONDS", 0.05)

    def silent_once(given: Task, channel: Connection) -> None:
        start(stage, given.fence)
        if given.fence.claim == 1:
            stage.started[-1].killed.wait()
        succeed(given)

    job_id = stage.submit("silent", silent_once)
    run(lease_seconds=1)
    until(lambda: stage.state(job_id) == State.succeeded)

    assert (stage.job(job_id).attempt, stage.job(job_id).losses) == (2, 1)
    assert reasons(stage, job_id) == ["nothing was heard of its worker"]
    assert stage.started[1].killed.is_set()  # after the probe's
    assert not stage.started[2].killed.is_set()


def test_a_child_that_is_heard_of_is_left_alone(
    stage: Stage, run: Run, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(supervisor, "WATCH_SECONDS", 0.05)
    came_up = threading.Event()

    def come_up_slowly(given: Task, channel: Connection) -> None:
        came_up.wait()  # its supervisor gives the signs of life meanwhile
        start(stage, given.fence)
        succeed(given)

    job_id = stage.submit("slow", come_up_slowly)
    run(lease_seconds=1)
    until(lambda: stage.job(job_id).beat > 20)  # two seconds and more
    came_up.set()
    until(lambda: stage.state(job_id) == State.succeeded)

    assert stage.job(job_id).attempt == 1
    assert not stage.started[1].killed.is_set()


def test_a_database_that_does_not_answer_is_asked_again(
    stage: Stage,
    run: Run,
    until: Until,
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "TROUBLE_SECONDS", 0.1)
    failed: list[float] = []

    @event.listens_for(engine, "before_cursor_execute")
    def _(connection: object, cursor: object, statement: str, *_: object) -> None:
        if "RETURNING" in statement and len(failed) < 5:
            failed.append(time.monotonic())
            raise sqlite3.OperationalError("database is locked")

    job_id = stage.submit("train", at_once)
    errors = run()
    until(lambda: stage.state(job_id) == State.succeeded)

    assert len(failed) == 5
    assert all(later - earlier >= 0.1 for earlier, later in itertools.pairwise(failed))
    assert errors == []
    assert "the database did not answer" in caplog.text


def test_jobs_of_workers_that_are_gone_are_taken_over(
    stage: Stage, run: Run, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.05)
    job_id = stage.submit("train", at_once)
    with stage.sessions.begin() as session:
        gone = jobs.claim(session, worker_id="gone", host="there", device=None)
        assert gone is not None

    run(lease_seconds=0.5)
    until(lambda: stage.state(job_id) == State.succeeded)

    assert stage.job(job_id).attempt == 2


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


def test_a_process_that_cannot_start_costs_no_attempt_and_no_other_job(
    stage: Stage, run: Run, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "TROUBLE_SECONDS", 0.05)
    job_id = stage.submit("train", at_once)
    refused: list[EOFError] = []

    def start(process: Process) -> None:
        if len(stage.started) == 2 and not refused:
            refused.append(EOFError("unexpected EOF"))  # as when the forkserver dies just then
            raise refused[0]
        process._thread.start()

    monkeypatch.setattr(Process, "start", start)
    errors = run()
    until(lambda: stage.state(job_id) == State.succeeded)

    assert (stage.job(job_id).attempt, stage.job(job_id).claim) == (1, 2)
    assert refused
    assert errors == []


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


def test_a_home_that_is_gone_ends_the_worker_and_its_children(
    stage: Stage, run: Run, until: Until, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.05)

    def wait(given: Task, channel: Connection) -> None:
        start(stage, given.fence)
        stage.started[1].killed.wait()

    job_id = stage.submit("train", wait)
    errors = run()
    until(lambda: stage.state(job_id) == State.running)
    (tmp_path / "danlu.sqlite3").rename(tmp_path / "moved.sqlite3")

    until(lambda: errors)
    assert isinstance(errors[0], Problem)
    assert errors[0].code == "home_gone"
    assert stage.started[1].killed.is_set()


def test_imports_and_exports_need_no_device_and_wait_for_no_training(
    stage: Stage, run: Run, until: Until
) -> None:
    over, given = threading.Event(), {}

    def wait(task: Task, channel: Connection) -> None:
        given[task.kind] = task.device
        over.wait()
        succeed(task)

    trains = stage.submit("train", wait)
    waits = stage.submit("waits", at_once)
    moves = [stage.submit(name, wait, kind=name) for name in ("import", "export")]
    more = stage.submit("more", at_once, kind="import")
    run()

    # Each lane is full, and neither waits for the other.
    until(lambda: len(given) == 3)
    assert [stage.job(one).device for one in (trains, *moves)] == ["cpu", None, None]
    assert given == {"train": "cpu", "import": "cpu", "export": "cpu"}
    assert [stage.state(one) for one in (waits, more)] == [State.queued, State.queued]
    over.set()
    until(lambda: all(stage.state(one) == State.succeeded for one in (trains, waits, *moves, more)))


def test_as_many_jobs_share_a_device_as_the_setting_says(
    stage: Stage, run: Run, until: Until
) -> None:
    over = threading.Event()

    def wait(given: Task, channel: Connection) -> None:
        over.wait()
        succeed(given)

    all_of_them = [stage.submit("train", wait) for _ in range(3)]
    run(jobs_per_device=2)
    until(lambda: stage.state(all_of_them[1]) == State.starting)
    shown = [(stage.state(job_id), stage.job(job_id).device) for job_id in all_of_them]
    over.set()
    until(lambda: stage.state(all_of_them[2]) == State.succeeded)

    assert shown == [("starting", "cpu"), ("starting", "cpu"), ("queued", None)]


def test_each_device_has_a_job_of_its_own(stage: Stage, run: Run, until: Until) -> None:
    stage.devices = ["cuda:0", "cuda:1"]
    over = threading.Event()

    def wait(given: Task, channel: Connection) -> None:
        over.wait()
        succeed(given)

    all_of_them = [stage.submit("train", wait) for _ in range(3)]
    run()
    until(lambda: stage.state(all_of_them[1]) == State.starting)
    shown = [(stage.state(job_id), stage.job(job_id).device) for job_id in all_of_them]
    over.set()
    until(lambda: stage.state(all_of_them[2]) == State.succeeded)

    assert shown == [("starting", "cuda:0"), ("starting", "cuda:1"), ("queued", None)]


def test_an_error_of_its_own_gives_the_jobs_back(
    stage: Stage, run: Run, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else Python would wait at the exit for children that nobody watches."""
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.2)
    stage.devices = ["cuda:0", "cuda:1"]

    def wait(given: Task, channel: Connection) -> None:
        start(stage, given.fence)
        stage.started[1].killed.wait()

    job_id = stage.submit("train", wait)
    errors = run()
    until(lambda: stage.state(job_id) == State.running)
    monkeypatch.setattr(Process, "start", lambda self: (_ for _ in ()).throw(BlockingIOError()))
    stage.submit("one too many", at_once)

    until(lambda: errors)
    assert isinstance(errors[0], BlockingIOError)
    assert (stage.state(job_id), stage.job(job_id).attempt) == (State.queued, 1)


def test_a_stop_before_there_is_anything_to_stop_leaves_at_once(
    stage: Stage, engine: Engine, url: str, tmp_path: Path
) -> None:
    one = Supervisor(Settings(home=tmp_path, database_url=url), engine)

    with pytest.raises(SystemExit):
        one.stop()
