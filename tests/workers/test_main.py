import contextlib
import multiprocessing
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workers import __main__ as program

NewWorker = Callable[..., Any]
Until = Callable[..., Any]
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="processes are seen in /proc"),
    pytest.mark.xdist_group("main"),  # what they share is made once
]


@pytest.fixture(scope="module")
def worker(new_worker: NewWorker, until: Until) -> Any:
    """A worker that waits for jobs, shared by the tests of this module."""
    worker = new_worker()
    worker.start()
    until(lambda: worker.pid("forkserver"), seconds=90)
    return worker


# Its child stops itself in place of asking; it must be a function that the child finds too.
ASKS_FOR_EVER = """
import sys
from tests.workers.stage import never
from workers import __main__, task
task.probe = never
sys.exit(__main__.main())
"""


# In place of its work it commits as much as SQLite lets its log grow by itself, and more.
COMMITS_MUCH = """
import sys
import time
from sqlalchemy import text
from database import files, wal
from workers import __main__, supervisor

def run(self):
    path = files.path_of(self._settings.database)
    with self._looking() as session:
        said = session.scalar(text("PRAGMA wal_autocheckpoint"))
    with self._sessions.begin() as session:
        session.execute(text("CREATE TABLE much AS SELECT zeroblob(5000000)"))
    while path.stat().st_size < 5000000:
        time.sleep(0.02)
    sys.stderr.write(f"{said} pages at once, all in the end")

wal.EVERY_SECONDS = 0.1
supervisor.Supervisor.run = run
sys.exit(__main__.main())
"""


def started(worker: Any, **how: Any) -> int:
    """Starts a worker; what it holds of its parent is a pipe, whose other end this is."""
    reading, writing = os.pipe()
    worker.start(pass_fds=(reading,), DANLU_PARENT_FD=str(reading), **how)
    os.close(reading)
    return writing


def forkservers(worker: Any) -> list[int]:
    """The living forkservers of a worker, not what was forked from them."""
    return [pid for pid in children(worker.process.pid) if "forkserver import main" in said(pid)]


def has_child(pids: list[int]) -> bool:
    return any(children(pid) for pid in pids)


def children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def said(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def has_torch(pid: int) -> bool:
    return "libtorch_cpu" in Path(f"/proc/{pid}/maps").read_text()


def variables(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/environ").read_text().split("\0")


def test_the_supervisor_is_small_and_its_children_find_torch_loaded(worker: Any) -> None:
    assert worker.pid("supervisor") == worker.process.pid
    # A preload that fails is skipped in silence, and every job pays seconds.
    assert has_torch(worker.pid("forkserver"))
    assert not has_torch(worker.process.pid)


def test_what_children_are_told_is_set_before_the_forkserver_starts(worker: Any) -> None:
    told = variables(worker.pid("forkserver"))

    assert "PYTORCH_NVML_BASED_CUDA_CHECK=1" in told
    assert any(variable.startswith("OMP_WAIT_POLICY=") for variable in told)  # by the tests too


def test_openmp_of_children_spins_a_while_unless_somebody_knows_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(multiprocessing, "set_forkserver_preload", lambda _: None)
    for said, spins in ((None, "20000"), ("active", None)):
        monkeypatch.setattr(os, "environ", {} if said is None else {"OMP_WAIT_POLICY": said})
        program._prepare_forkserver()
        assert os.environ["OMP_WAIT_POLICY"] == (said or "passive")
        assert os.environ.get("GOMP_SPINCOUNT") == spins


def test_a_second_worker_is_told_who_is_there(worker: Any) -> None:
    second = subprocess.run(
        [sys.executable, "-P", "-m", "workers"],
        env=os.environ | {"DANLU_HOME": str(worker.home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert second.returncode == 5
    assert f"Another worker (pid {worker.process.pid}) uses {worker.home}." in second.stderr
    assert "DANLU_HOME" in second.stderr
    assert "Traceback" not in second.stderr
    assert worker.process.poll() is None
    assert (worker.home / f"worker-{socket.gethostname()}.lock").exists()


def test_a_database_of_a_newer_danlu_is_left_as_it_is(new_worker: NewWorker) -> None:
    worker = new_worker()
    with sqlite3.connect(worker.home / "danlu.sqlite3") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999_from_the_future'")
    connection.close()

    worker.start()

    assert worker.process.wait(60) == 4
    assert "9999_from_the_future" in worker.log()
    assert "Traceback" not in worker.log()


def test_a_damaged_database_is_told_in_one_line(new_worker: NewWorker) -> None:
    worker = new_worker()
    with (worker.home / "danlu.sqlite3").open("r+b") as file:
        file.write(b"as a disk that fails writes it")

    worker.start()

    assert worker.process.wait(60) == 1
    (line,) = worker.log().splitlines()
    assert "The database cannot be used: file is not a database. danlu doctor" in line


def test_a_disk_that_stalls_does_not_stop_who_counts_the_signs_of_life(
    new_worker: NewWorker,
) -> None:
    """Its commits sync nothing, and the log of the database is written back beside it."""
    worker = new_worker()

    worker.start(program=COMMITS_MUCH)

    assert worker.process.wait(60) == 0
    assert "0 pages at once, all in the end" in worker.log()


def test_a_worker_ends_with_the_pipe_of_danlu_serve(new_worker: NewWorker, until: Until) -> None:
    worker = new_worker()
    (worker.home / "danlu.sqlite3").unlink()  # it makes its own
    parent = started(worker)
    until(lambda: "ready" in worker.log(), seconds=90)
    job_id = worker.submit()
    while worker.job(job_id).state == "queued":
        time.sleep(0.005)

    os.close(parent)
    assert worker.process.wait(60) == 0

    until(lambda: not worker.pids())
    # Even a child that had just begun to come up counts as stopped, not as lost.
    job = worker.job(job_id)
    assert (job.state, job.attempt, job.losses) == ("queued", 1, 0)
    assert worker.pid("supervisor") is None
    assert worker.pid("forkserver") is None
    assert worker.pid("child") is None


def test_a_worker_ends_while_a_new_forkserver_still_imports_torch(
    new_worker: NewWorker, until: Until
) -> None:
    worker = new_worker()
    parent = started(worker)
    until(lambda: "ready" in worker.log(), seconds=90)
    [first] = forkservers(worker)
    os.kill(first, signal.SIGKILL)
    until(lambda: first not in forkservers(worker))

    job_id = worker.submit()
    [second] = until(lambda: forkservers(worker))
    os.kill(second, signal.SIGSTOP)  # as good as busy with an import, for ever
    os.close(parent)

    assert worker.process.wait(60) == 0
    os.kill(second, signal.SIGCONT)  # it may not even have been tied to its worker yet
    until(lambda: not worker.pids())
    job = worker.job(job_id)
    assert (job.state, job.losses) == ("queued", 0)
    assert worker.pid("supervisor") is None


def test_no_job_waits_for_a_new_forkserver_in_the_hands_of_a_worker(
    new_worker: NewWorker, until: Until
) -> None:
    worker = new_worker()
    worker.start()
    until(lambda: "ready" in worker.log(), seconds=90)
    [first] = forkservers(worker)
    os.kill(first, signal.SIGKILL)
    [second] = until(lambda: [pid for pid in forkservers(worker) if pid != first])
    os.kill(second, signal.SIGSTOP)  # as good as busy with an import
    job_id = worker.submit(epochs=1)

    time.sleep(1)
    assert worker.job(job_id).state == "queued"  # and no lease runs out

    os.kill(second, signal.SIGCONT)
    until(lambda: worker.job(job_id).state == "succeeded", seconds=90)
    assert (worker.job(job_id).claim, worker.job(job_id).losses) == (1, 0)


def test_a_worker_ends_while_it_still_asks_what_devices_there_are(
    new_worker: NewWorker, until: Until
) -> None:
    worker = new_worker()
    parent = started(worker, program=ASKS_FOR_EVER)
    until(lambda: has_child(forkservers(worker)), seconds=90)

    os.close(parent)

    assert worker.process.wait(60) == 0
    for pid in worker.pids():  # what was stopped before the worker knew of it
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# The end comes just when the child that asks has been started, between two lines.
HEARS_OF_THE_END = """
import signal
import sys
from tests.workers.stage import never
from workers import __main__, task
from workers.children import Launcher

def start(self, *given, start=Launcher.start):
    started = start(self, *given)
    sys.stderr.write("started")
    {then}
    return started

task.probe = never
Launcher.start = start
sys.exit(__main__.main())
"""


@pytest.mark.parametrize(
    "then",
    [
        "signal.raise_signal(signal.SIGTERM)",
        # Another thread gets it, so it interrupts nothing that this one waits for.
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); sys.stderr.write('blocked')",
    ],
)
def test_a_worker_ends_at_whatever_moment_it_hears_of_that(
    new_worker: NewWorker, until: Until, then: str
) -> None:
    worker = new_worker()
    parent = started(worker, program=HEARS_OF_THE_END.format(then=then))
    blocks = "BLOCK" in then
    until(lambda: ("blocked" if blocks else "started") in worker.log(), seconds=90)
    if blocks:
        os.close(parent)

    assert worker.process.wait(60) == 0
    until(lambda: not worker.pids())
    if not blocks:
        os.close(parent)
