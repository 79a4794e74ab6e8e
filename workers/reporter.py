"""The thread of a child that keeps its lease and carries progress to the database.

The training thread leaves its newest numbers here and goes on; what is written, how often and
what comes back (cancel, a lost claim) is this module's. Knows nothing of training.
"""

import logging
import threading
import time
from typing import Any, Literal, Self

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from database import history, jobs
from database.jobs import Fence, State

Reason = Literal["cancel", "release", "fenced"]

WRITE_SECONDS = 0.5
HEARTBEAT_SECONDS = 2.0

log = logging.getLogger(__name__)


class Stopped(Exception):
    """Raised out of long work that somebody told to stop."""


class Stop:
    """Whether this child was told to stop, and why: the first reason stands, but for a lost claim.

    Set from a signal handler too, so it takes no lock.
    """

    def __init__(self) -> None:
        self.reason: Reason | None = None

    def set(self, reason: Reason) -> None:
        """Tells the work to stop at its next step."""
        if self.reason is None or reason == "fenced":
            self.reason = reason

    def __call__(self) -> bool:
        return self.reason is not None


class Reporter:
    """Use as a context: the thread runs inside it, and the last numbers are written on leaving."""

    def __init__(self, sessions: sessionmaker[Session], fence: Fence, stop: Stop) -> None:
        self._sessions = sessions
        self._fence = fence
        self._stop = stop
        self._changed = threading.Condition()
        self._progress: dict[str, Any] | None = None
        self._metrics: dict[str, Any] | None = None
        self._steps: list[dict[str, Any]] = []
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

    def _run(self) -> None:
        written = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(self._something, timeout=HEARTBEAT_SECONDS)
                pause = written + WRITE_SECONDS - time.monotonic()
                self._changed.wait_for(lambda: self._closing, timeout=pause)
                closing = self._closing
                progress, metrics, steps = self._progress, self._metrics, self._steps
                self._progress, self._metrics, self._steps = None, None, []
            self._write(progress, metrics, steps)
            written = time.monotonic()
            if closing:
                return

    def _something(self) -> bool:
        return self._closing or self._progress is not None

    def _write(
        self,
        progress: dict[str, Any] | None,
        metrics: dict[str, Any] | None,
        steps: list[dict[str, Any]],
    ) -> None:
        try:
            with self._sessions.begin() as session:
                if progress is None:
                    state = jobs.heartbeat(session, self._fence)
                else:
                    state = jobs.progress(session, self._fence, progress=progress, metrics=metrics)
                for step in steps if state is not None else ():
                    history.add_step(session, self._fence, step)
        except SQLAlchemyError:
            # The lease outlives several missed beats; the next write is half a second away.
            log.exception("progress could not be written")
            with self._changed:
                self._progress, self._metrics = self._progress or progress, self._metrics or metrics
                self._steps = steps + self._steps
            return
        if state is None:
            self._stop.set("fenced")
        elif state is State.cancelling:
            self._stop.set("cancel")
