"""One job of any kind, inside a child of its own: does the work and says how it ended.

Knows nothing of processes, nor of what the kinds do.
"""

import errno
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.orm import Session, sessionmaker

from database import engine, jobs
from problems import Problem
from workers import room, run_train
from workers.ranks import Followers
from workers.reporter import STUCK_SECONDS, Lines, Reporter, Stop, Stopped
from workers.run_train import Devices
from workers.task import Task

# A job goes back to the queue when the database did not answer, and is the first to be taken again.
# Should its own statements alone have no answer, it must not go round and round in haste.
LATER_SECONDS = 5.0
_LOOK_SECONDS = 0.1

log = logging.getLogger(__name__)

# How PyTorch begins what it says of an operation that `deterministic` forbids.
_UNREPEATABLE = re.compile(r"(\S+) does not have a deterministic implementation")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the work ended, for `exit.json`."""

    state: Literal["succeeded", "failed", "cancelled", "released"]
    stop_reason: str | None = None
    error: dict[str, Any] | None = None
    exception: str | None = None


def run(
    task: Task,
    held: Devices,
    stop: Stop,
    *,
    followers: Followers | None = None,
    on_stuck: Callable[[], object] = lambda: None,
    stuck_seconds: float = STUCK_SECONDS,
) -> Outcome:
    """Does the whole job; every way it can end is an `Outcome`, also errors of any kind. It is
    `released` when the database did not answer.

    `on_stuck` is called, in a thread of its own, when the work hangs.
    """
    # A disk that stalls must not hold the thread that keeps the lease.
    connected = engine.connect(task.database, autocheckpoint=False)
    sessions = engine.session_factory(connected)
    reporter = Reporter(sessions, task.fence, stop, on_stuck=on_stuck, stuck_seconds=stuck_seconds)
    lines = Lines(reporter)
    logging.getLogger().addHandler(lines)
    try:
        with reporter, _without_haste(stop):
            stop_reason = _work(task, sessions, reporter, held, stop, followers or Followers())
    except Stopped:
        return Outcome("cancelled" if stop.reason == "cancel" else "released")
    except Problem as problem:  # foreseen: where it was raised helps nobody
        log.error("the job failed: %s %s", problem.detail, problem.hint)
        return failed(problem)
    except Exception as error:
        if engine.did_not_answer(error):
            return Outcome("released")
        log.exception("the job failed")
        return failed(error, training=task.kind == "train")
    finally:
        logging.getLogger().removeHandler(lines)
        connected.dispose()
    return Outcome("succeeded", stop_reason=stop_reason)


def failed(error: Exception, *, training: bool = True) -> Outcome:
    """The outcome of a job that ended with this error."""
    return Outcome(
        "failed", error=_explain(error, training=training), exception=type(error).__name__
    )


@contextmanager
def _without_haste(stop: Stop) -> Iterator[None]:
    """Lets some seconds pass before the job goes back to the queue: in here its lease is kept."""
    try:
        yield
    except Exception as error:
        if engine.did_not_answer(error):
            log.exception("the database did not answer; the job goes on later")
            deadline = time.monotonic() + LATER_SECONDS
            while not stop() and time.monotonic() < deadline:
                time.sleep(_LOOK_SECONDS)
        raise


def _work(
    task: Task,
    sessions: sessionmaker[Session],
    reporter: Reporter,
    held: Devices,
    stop: Stop,
    followers: Followers,
) -> str | None:
    """Returns the job's `stop_reason`. What a training needs not is imported when it is needed."""
    if task.kind == "train":
        return run_train.work(task, sessions, reporter, held, stop, followers)
    request = _begin(task, sessions)
    if task.kind == "import":
        from workers import run_import

        return run_import.work(task, sessions, reporter, stop, request)
    if task.kind == "export":
        from workers import run_export

        return run_export.work(task, sessions, reporter, stop, request)
    # No lane has another kind, so none is claimed; a newer danlu's row would say so here.
    raise Problem("job_failed", f"This danlu has no jobs of kind {task.kind}.")


def _begin(task: Task, sessions: sessionmaker[Session]) -> dict[str, Any]:
    """What a job that needs no device is asked for."""
    with sessions.begin() as session:
        row = jobs.get(session, task.fence.job_id)
        if not jobs.start(session, task.fence, pid=os.getpid(), device=None):
            raise Stopped
        return row.request or {}


def _explain(error: Exception, *, training: bool) -> dict[str, Any]:
    """What a person is told; the log has the traceback."""
    if isinstance(error, Problem):
        problem = error
    elif room.is_exhausted(error):
        problem = Problem("out_of_memory", "The device ran out of memory.")
    elif found := _UNREPEATABLE.match(str(error)):
        problem = Problem(
            "deterministic_unavailable",
            f"{found[1]} has no form that gives the same bits each time on this device.",
        )
    elif _is_disk_full(error):
        problem = Problem("disk_full", "The disk filled up during the job.")
    else:
        # The system's own words: what follows them are paths of this machine.
        said = (isinstance(error, OSError) and error.strerror) or str(error)
        first_line = said.partition("\n")[0][:300]
        code = "training_failed" if training else "job_failed"
        problem = Problem(code, f"{type(error).__name__}: {first_line}")
    return dict(problem.as_dict())


def _is_disk_full(error: Exception) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or engine.is_full(error)
