"""`python -m workers`: reads the settings, takes the lock of this home, runs the supervisor.

The composition root of the worker. Stops on SIGTERM, on Ctrl-C, and when `danlu serve` is gone.
"""

import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator

from pydantic import ValidationError

from data_store import leash
from problems import Problem
from settings import Settings, what_is_wrong
from settings.logs import log_to_stderr

_EXIT_CODES = {"database_newer": 4, "home_in_use": 5, "home_gone": 6}


def main() -> int:
    """Runs until told to stop. Exit codes: 0 stopped, 1 failed; 2 and 4 to 6: no restart helps."""
    try:
        settings = Settings()
    except ValidationError as error:
        sys.stderr.write(what_is_wrong(error))
        return 2
    log_to_stderr(settings, "worker")
    try:
        with _only_one(settings):
            _supervise(settings)
    except Problem as problem:
        logging.error("%s %s", problem.detail, problem.hint)
        return _EXIT_CODES.get(problem.code, 1)
    except OSError as error:
        logging.error("the home %s cannot be used: %s", settings.home, error)
        return 1
    return 0


def _supervise(settings: Settings) -> None:
    # Imported late: a second worker hears at once that it is not wanted.
    from workers import processes

    if settings.parent_fd is not None:  # what is imported next takes a second
        processes.end_when_parent_does(settings.parent_fd)
    from sqlalchemy.exc import SQLAlchemyError

    _prepare_forkserver()
    try:
        _run(settings)
    except SQLAlchemyError as error:  # damaged, say, or full when the ends of jobs are to be noted
        reason = getattr(error, "orig", None) or error
        detail = f"The database cannot be used: {reason}."
        hint = "danlu doctor looks for what is wrong with it."
        raise Problem("database_unavailable", detail, hint=hint) from error


def _run(settings: Settings) -> None:
    """Until told to stop. Raises `Problem` database_newer, home_in_use, home_gone, and
    `SQLAlchemyError`.
    """
    from database import engine, wal
    from workers.supervisor import Supervisor

    engine.migrate(settings.database)
    engine.refuse_other_machines(settings.database)
    # Its one thread counts signs of life and gives some: a disk that stalls must not hold it.
    database = engine.connect(settings.database, autocheckpoint=False)
    supervisor = Supervisor(settings, database)

    def stop(*_: object) -> None:
        waits = supervisor.waits
        supervisor.stop()
        if waits:
            sys.exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with wal.written_back(settings.database):
        supervisor.run()


def _prepare_forkserver() -> None:
    """Children find everything imported. Set before the forkserver starts, for it to inherit."""
    # Asking the driver through NVML leaves CUDA untouched, so the process may still fork.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # noqa: TID251 - for children, not a setting
    # Threads that sleep while they wait for each other wait for the kernel at each of a step's
    # hundred meetings; threads that spin stall for whole time slices when the cores are shared. So
    # they spin for a fifth of a millisecond, and not at all beside others: `pacing` sees to that
    # (docs/decisions/0029, 0051).
    variables = os.environ  # noqa: TID251 - libgomp reads them in the children, no settings
    if "OMP_WAIT_POLICY" not in variables:
        variables["OMP_WAIT_POLICY"] = "passive"
        variables.setdefault("GOMP_SPINCOUNT", "20000")
    leash.preload("workers.child")


@contextlib.contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Holds the lock of this home on this host. Raises `Problem` home_in_use."""
    settings.home.mkdir(parents=True, exist_ok=True)
    path = settings.home / f"worker-{socket.gethostname()}.lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise Problem(
                "home_in_use",
                f"Another worker (pid {file.read().strip() or 'unknown'}) uses {settings.home}.",
                hint="Stop it first, or give this one a home of its own with DANLU_HOME.",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


if __name__ == "__main__":
    sys.exit(main())
