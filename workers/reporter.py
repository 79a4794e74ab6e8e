"""The thread of a child that keeps its lease and carries progress to the database.

The training thread leaves its newest numbers here and goes on; what is written, how often and
what comes back (cancel, a lost claim) is this module's. Knows nothing of training.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from database import engine, history, jobs
from database.jobs import Fence, Orders, State

Reason = Literal["cancel", "release", "fenced"]

WRITE_SECONDS = 0.5
HEARTBEAT_SECONDS = 2.0
# What a job has measured in the end is tried to write for so long: a database server that restarts
# takes less.
LAST_SECONDS = 60.0
# Work that has not asked for so long whether to stop hangs: a step, or a batch of images that are
# decoded, takes seconds at most.
STUCK_SECONDS = 600.0
# Lines that wait to be told; the log file has them all.
MOST_LINES = 200

log = logging.getLogger(__name__)


class Stopped(Exception):
    """Raised out of long work that somebody told to stop."""


class Stop:
    """Whether this child was told to stop, and why: the first reason stands, but for a lost claim.

    Set from a signal handler too, so it takes no lock.
    """

    def __init__(self) -> None:
        self.reason: Reason | None = None
        self._asked = time.monotonic()

    def set(self, reason: Reason) -> None:
        """Tells the work to stop at its next step."""
        if self.reason is None or reason == "fenced":
            self.reason = reason

    def __call__(self) -> bool:
        self._asked = time.monotonic()
        return self.reason is not None

    @property
    def unasked_seconds(self) -> float:
        """How long nobody has asked, who should at every step."""
        return time.monotonic() - self._asked


@dataclass(frozen=True, slots=True)
class _News:
    """What has not been written yet."""

    progress: dict[str, Any] | None
    metrics: dict[str, Any] | None
    steps: list[dict[str, Any]]
    lines: list[str]


class Reporter:
    """Use as a context: the thread runs inside it, and the last numbers are written on leaving."""

    def __init__(
        self,
        sessions: sessionmaker[Session],
        fence: Fence,
        stop: Stop,
        *,
        on_stuck: Callable[[], object] = lambda: None,
        stuck_seconds: float = STUCK_SECONDS,
    ) -> None:
        """`on_stuck` is called, in the reporter's thread, when the work hangs."""
        self.finishing = False  # asked to end after this epoch
        self._sessions = sessions
        self._fence = fence
        self._stop = stop
        self._on_stuck = on_stuck
        self._stuck_seconds = stuck_seconds
        self._changed = threading.Condition()
        self._progress: dict[str, Any] | None = None
        self._metrics: dict[str, Any] | None = None
        self._steps: list[dict[str, Any]] = []
        self._lines: list[str] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def tell(
        self,
        progress: dict[str, Any],
        *,
        metrics: dict[str, Any] | None = None,
        step: dict[str, Any] | None = None,
    ) -> None:
        """The newest numbers; written within half a second, older unwritten ones are dropped.

        Every `step` is kept.
        """
        with self._changed:
            self._progress = progress
            self._metrics = metrics or self._metrics
            if step is not None:
                self._steps.append(step)
            self._changed.notify()

    def line(self, text: str) -> None:
        """A line for those who listen to the job."""
        with self._changed:
            if len(self._lines) < MOST_LINES:
                self._lines.append(text)

    def _run(self) -> None:
        written = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(self._something, timeout=HEARTBEAT_SECONDS)
                pause = written + WRITE_SECONDS - time.monotonic()
                self._changed.wait_for(lambda: self._closing, timeout=pause)
                closing = self._closing
            if closing:
                self._write_last()
                return
            self._write(self._take())
            written = time.monotonic()
            if self._stop.unasked_seconds > self._stuck_seconds:
                self._on_stuck()

    def _something(self) -> bool:
        return self._closing or self._progress is not None

    def _take(self) -> _News:
        with self._changed:
            news = _News(self._progress, self._metrics, self._steps, self._lines)
            self._progress, self._metrics, self._steps, self._lines = None, None, [], []
        return news

    def _write_last(self) -> None:
        """Until the database answers, unless it takes too long or the job was told to stop."""
        deadline = time.monotonic() + LAST_SECONDS
        while not self._write(self._take()):
            if self._stop.reason is not None or time.monotonic() > deadline:
                return
            time.sleep(WRITE_SECONDS)

    def _write(self, news: _News) -> bool:
        """False: the database did not answer, and may do so the next time."""
        try:
            with self._sessions.begin() as session:
                orders = self._tell(session, news)
        except SQLAlchemyError as error:
            # The lease outlives several missed beats; the next write is half a second away.
            log.exception("progress could not be written")
            with self._changed:
                self._progress = self._progress or news.progress
                self._metrics = self._metrics or news.metrics
                self._steps = news.steps + self._steps
                self._lines = (news.lines + self._lines)[:MOST_LINES]
            return not engine.did_not_answer(error)
        if orders is None:
            self._stop.set("fenced")
            return True
        self.finishing = orders.finishing
        if orders.state is State.cancelling:
            self._stop.set("cancel")
        return True

    def _tell(self, session: Session, news: _News) -> Orders | None:
        if news.progress is None:
            orders = jobs.heartbeat(session, self._fence)
        else:
            orders = jobs.progress(
                session, self._fence, progress=news.progress, metrics=news.metrics
            )
        if orders is not None:
            for line in news.lines:
                history.add_log(session, self._fence, line)
            for step in news.steps:
                history.add_step(session, self._fence, step)
        return orders


class Lines(logging.Handler):
    """Hands the first line of each record to a reporter; a traceback stays in the log file."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__(logging.INFO)
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        """Whatever cannot be formatted is logging's to report."""
        try:
            line = record.getMessage().partition("\n")[0]
        except Exception:
            self.handleError(record)
        else:
            self._reporter.line(line)
