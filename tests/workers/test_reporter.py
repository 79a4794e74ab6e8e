import itertools
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session, sessionmaker

from database import events, history, jobs
from database.jobs import Fence
from workers import reporter as reporters
from workers.reporter import MOST_LINES, Lines, Reporter, Stop

Sessions = sessionmaker[Session]
Job = Callable[[Fence], jobs.Job]
Until = Callable[..., Any]


@pytest.fixture
def written(engine: Engine) -> list[float]:
    """When the job's row was written."""
    times: list[float] = []

    @event.listens_for(engine, "before_cursor_execute")
    def _(connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE jobs"):
            times.append(time.monotonic())

    return times


def step(number: int) -> dict[str, Any]:
    return {"step": number, "epoch": 1, "train_loss": 1 / number, "lr": 0.1}


def steps(sessions: Sessions, fence: Fence) -> list[int]:
    with sessions() as session:
        return [row.step for row in history.steps(session, fence.job_id)]


def test_many_numbers_make_few_writes_and_every_step_is_kept(
    sessions: Sessions, running: Fence, job: Job, written: list[float]
) -> None:
    told = 0
    with Reporter(sessions, running, Stop()) as reporter:
        while len(written) < 3:
            told += 1
            reporter.tell({"step": told}, metrics={"train_loss": 0.5}, step=step(told))
            time.sleep(0.01)

    gaps = [later - earlier for earlier, later in itertools.pairwise(written)]
    # The last is written at once, since the numbers are final.
    assert all(gap > 0.45 for gap in gaps[:-1])
    assert steps(sessions, running) == list(range(1, told + 1))
    assert job(running).progress == {"step": told}
    assert job(running).metrics == {"train_loss": 0.5}


def test_numbers_are_written_while_the_work_goes_on(
    sessions: Sessions, running: Fence, job: Job, until: Until
) -> None:
    with Reporter(sessions, running, Stop()) as reporter:
        reporter.tell({"step": 1})

        assert until(lambda: job(running).progress) == {"step": 1}


def test_what_was_told_last_is_written_before_it_ends(
    sessions: Sessions, running: Fence, job: Job
) -> None:
    with Reporter(sessions, running, Stop()) as reporter:
        for number in range(1, 4):
            reporter.tell({"step": number}, metrics={"loss": number}, step=step(number))
        reporter.tell({"step": 9})

    assert job(running).progress == {"step": 9}
    assert job(running).metrics == {"loss": 3}
    assert steps(sessions, running) == [1, 2, 3]


def test_it_also_ends_well_when_the_work_failed(
    sessions: Sessions, running: Fence, job: Job
) -> None:
    def work() -> None:
        with Reporter(sessions, running, Stop()) as reporter:
            reporter.tell({"step": 4})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()

    assert job(running).progress == {"step": 4}


def test_it_is_heard_of_while_there_is_nothing_to_tell(
    sessions: Sessions, running: Fence, job: Job, until: Until
) -> None:
    before = job(running).beat

    with Reporter(sessions, running, Stop()):
        until(lambda: job(running).beat > before + 1)

    assert job(running).progress is None


def test_a_wish_to_finish_early_is_heard(sessions: Sessions, running: Fence, until: Until) -> None:
    stop = Stop()
    with Reporter(sessions, running, stop) as reporter:
        assert not reporter.finishing
        with sessions.begin() as session:
            jobs.finish_early(session, running.job_id)
        reporter.tell({"step": 1})
        until(lambda: reporter.finishing)

    assert stop.reason is None


def test_a_cancel_is_heard(sessions: Sessions, running: Fence, until: Until) -> None:
    stop = Stop()
    with Reporter(sessions, running, stop) as reporter:
        with sessions.begin() as session:
            jobs.cancel(session, running.job_id)
        reporter.tell({"step": 1})
        until(stop)

    assert stop.reason == "cancel"


def test_a_cancel_of_the_last_moment_is_heard_on_leaving(
    sessions: Sessions, running: Fence
) -> None:
    stop = Stop()
    with Reporter(sessions, running, stop), sessions.begin() as session:
        jobs.cancel(session, running.job_id)

    assert stop.reason == "cancel"


def test_a_lost_claim_is_heard_and_nothing_is_written_any_more(
    sessions: Sessions, running: Fence, job: Job, until: Until
) -> None:
    with sessions.begin() as session:
        assert jobs.release(session, running)
        assert jobs.claim(session, worker_id="w2", host="there", device="cpu")

    stop = Stop()
    with Reporter(sessions, running, stop) as reporter:
        reporter.tell({"step": 7}, metrics={"train_loss": 0.5}, step=step(7))
        until(stop)

    assert stop.reason == "fenced"
    assert job(running).progress is None
    assert steps(sessions, running) == []


def test_a_database_that_fails_once_gets_all_of_it_later(
    sessions: Sessions, running: Fence, job: Job, engine: Engine, until: Until
) -> None:
    failures = 2

    @event.listens_for(engine, "before_cursor_execute")
    def _(connection: object, cursor: object, statement: str, *_: object) -> None:
        nonlocal failures
        if statement.startswith("INSERT INTO steps") and failures:
            failures -= 1
            raise sqlite3.OperationalError("disk I/O error")

    stop = Stop()
    with Reporter(sessions, running, stop) as reporter:
        reporter.tell({"step": 1}, metrics={"train_loss": 0.5}, step=step(1))
        until(lambda: failures < 2)
        reporter.tell({"step": 2}, step=step(2))
        until(lambda: steps(sessions, running) == [1, 2])

    assert failures == 0
    assert stop.reason is None
    assert steps(sessions, running) == [1, 2]
    assert job(running).progress == {"step": 2}
    assert job(running).metrics == {"train_loss": 0.5}


@pytest.fixture
def failing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the database says in place of taking progress; one less each time."""
    monkeypatch.setattr(reporters, "HEARTBEAT_SECONDS", 60.0)  # no sign of life is among them
    failing: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def _(connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE jobs") and failing:
            raise sqlite3.OperationalError(failing.pop())

    return failing


def test_what_was_told_last_is_tried_again_until_the_database_answers(
    sessions: Sessions, running: Fence, job: Job, failing: list[str]
) -> None:
    with Reporter(sessions, running, Stop()) as reporter:
        failing += ["database is locked"] * 2
        reporter.tell({"step": 9}, metrics={"test_accuracy": 0.5}, step=step(9))

    assert failing == []
    assert job(running).metrics == {"test_accuracy": 0.5}
    assert steps(sessions, running) == [9]


class Clock:
    """Goes on while somebody sleeps, and not while a machine is busy."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_what_was_told_last_is_tried_for_a_while_only(
    sessions: Sessions, running: Fence, failing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporters, "time", Clock())
    monkeypatch.setattr(reporters, "LAST_SECONDS", 0.6)

    with Reporter(sessions, running, Stop()):
        failing += ["database is locked"] * 100

    assert 100 - len(failing) == 3  # at once, after half a second and after a whole one


@pytest.mark.parametrize(
    ("says", "told"), [("database or disk is full", None), ("database is locked", "release")]
)
def test_what_was_told_last_is_tried_once_where_that_is_no_use_or_there_is_no_time(
    sessions: Sessions, running: Fence, failing: list[str], says: str, told: Any
) -> None:
    stop = Stop()
    with Reporter(sessions, running, stop):
        if told:
            stop.set(told)
        failing += [says] * 100

    assert len(failing) == 99


def logged(sessions: Sessions, fence: Fence) -> list[str]:
    with sessions() as session:
        told = events.since(session, 0, job_id=fence.job_id, limit=1000)
        return [one.data["line"] for one in told if one.type == "log"]


@pytest.fixture
def logger() -> Iterator[Callable[[Reporter], logging.Logger]]:
    """A logger whose lines go to a reporter."""
    log = logging.getLogger("tests.workers.reporter")
    log.propagate = False

    def logger(reporter: Reporter) -> logging.Logger:
        log.addHandler(Lines(reporter))
        log.setLevel(logging.DEBUG)
        return log

    yield logger
    log.handlers.clear()


def test_what_is_logged_is_told_line_by_line(
    sessions: Sessions, running: Fence, logger: Callable[[Reporter], logging.Logger]
) -> None:
    with Reporter(sessions, running, Stop()) as reporter:
        log = logger(reporter)
        log.info("epoch %d of %d", 1, 2)
        log.debug("nobody wants to know")
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            log.exception("the job failed\nand said so in a second line")

    assert logged(sessions, running) == ["epoch 1 of 2", "the job failed"]


def test_a_line_that_cannot_be_formatted_harms_nobody(
    sessions: Sessions, running: Fence, capsys: pytest.CaptureFixture[str]
) -> None:
    with Reporter(sessions, running, Stop()) as reporter:
        lines = Lines(reporter)
        lines.handle(logging.makeLogRecord({"msg": "%d images", "args": ("many",)}))
        lines.handle(logging.makeLogRecord({"msg": "%d images", "args": (3,)}))

    assert logged(sessions, running) == ["3 images"]
    assert "Logging error" in capsys.readouterr().err


def test_lines_without_end_are_cut_off(
    sessions: Sessions, running: Fence, logger: Callable[[Reporter], logging.Logger]
) -> None:
    reporter = Reporter(sessions, running, Stop())
    log = logger(reporter)
    for number in range(MOST_LINES + 50):
        log.info("line %d", number)
    with reporter:
        pass

    assert logged(sessions, running) == [f"line {number}" for number in range(MOST_LINES)]


def test_lines_of_a_lost_claim_are_not_told(
    sessions: Sessions, running: Fence, logger: Callable[[Reporter], logging.Logger]
) -> None:
    with sessions.begin() as session:
        assert jobs.release(session, running)

    with Reporter(sessions, running, Stop()) as reporter:
        logger(reporter).info("a line")

    assert logged(sessions, running) == []


def test_work_that_does_not_ask_whether_to_stop_hangs(
    sessions: Sessions, running: Fence, until: Until
) -> None:
    hangs: list[str] = []

    def on_stuck() -> None:
        hangs.append(threading.current_thread().name)

    with Reporter(sessions, running, Stop(), on_stuck=on_stuck, stuck_seconds=0.1) as reporter:
        time.sleep(0.2)
        reporter.tell({"step": 1})
        until(lambda: hangs)

    assert hangs[0] == "reporter"


def test_work_that_asks_does_not_hang(sessions: Sessions, running: Fence) -> None:
    stop = Stop()
    hangs: list[float] = []

    def on_stuck() -> None:
        hangs.append(stop.unasked_seconds)

    with Reporter(sessions, running, stop, on_stuck=on_stuck, stuck_seconds=30) as reporter:
        time.sleep(0.1)
        assert stop.unasked_seconds >= 0.1
        before = time.monotonic()
        stop()
        assert stop.unasked_seconds <= time.monotonic() - before
        reporter.tell({"step": 1})

    assert hangs == []


def test_the_first_reason_stands_but_for_a_lost_claim() -> None:
    stop = Stop()
    assert not stop()

    stop.set("cancel")
    stop.set("release")
    assert stop()
    assert stop.reason == "cancel"

    stop.set("fenced")
    assert stop.reason == "fenced"
    stop.set("cancel")
    assert stop.reason == "fenced"
