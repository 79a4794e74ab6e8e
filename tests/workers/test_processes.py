import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from workers import processes

Until = Callable[..., Any]
Sleeper = Callable[[], "subprocess.Popen[bytes]"]
pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="when a process began is read from /proc"
)


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    """A process that leads a session of its own and has a helper in it."""
    started: list[subprocess.Popen[bytes]] = []

    def sleeper() -> subprocess.Popen[bytes]:
        command = ["sh", "-c", "sleep 60 & sleep 60; wait"]
        started.append(subprocess.Popen(command, start_new_session=True))
        return started[-1]

    yield sleeper
    for process in started:
        processes.end_group(process.pid)
        process.wait()


def members(session: int) -> list[int]:
    """Processes of a session that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def note(runs: Path, record: dict[str, Any]) -> Path:
    file = runs / "job_1" / processes.PROCESS_FILE
    file.parent.mkdir(parents=True)
    processes.write(file, record)
    return file


def test_a_stale_process_is_ended_with_all_that_it_started(
    tmp_path: Path, sleeper: Sleeper, until: Until
) -> None:
    stale = sleeper()
    until(lambda: len(members(stale.pid)) == 3)
    file = note(tmp_path, dict(processes.describe(stale.pid, "here")))

    assert processes.end_stale_groups(tmp_path, "here") == set()

    assert stale.wait(30) == -signal.SIGKILL
    until(lambda: not members(stale.pid))
    assert not file.exists()


@pytest.mark.parametrize("differs", ["started", "boot"])
def test_another_process_that_got_the_pid_is_left_alone(
    tmp_path: Path, sleeper: Sleeper, differs: str
) -> None:
    other = sleeper()
    file = note(tmp_path, {**processes.describe(other.pid, "here"), differs: "another"})

    assert processes.end_stale_groups(tmp_path, "here") == {"job_1"}

    assert other.poll() is None
    assert not file.exists()


def test_processes_of_another_machine_are_left_alone(tmp_path: Path, sleeper: Sleeper) -> None:
    other = sleeper()
    file = note(tmp_path, dict(processes.describe(other.pid, "there")))

    assert processes.end_stale_groups(tmp_path, "here") == set()

    assert other.poll() is None
    assert file.exists()


def test_a_process_that_is_gone_is_no_error(tmp_path: Path, sleeper: Sleeper) -> None:
    gone = sleeper()
    record = processes.describe(gone.pid, "here")
    assert processes.is_same(record)

    processes.end_group(gone.pid)
    gone.wait()

    assert not processes.is_same(record)
    note(tmp_path, dict(record))
    assert processes.end_stale_groups(tmp_path, "here") == {"job_1"}
    processes.end_group(gone.pid)
    processes.ask_to_end(gone.pid)


def test_a_damaged_record_is_cleared_away(tmp_path: Path) -> None:
    file = note(tmp_path, {})
    file.write_text('{"pid": 1')

    assert processes.end_stale_groups(tmp_path, "here") == {"job_1"}
    assert not file.exists()


def test_a_process_runs_until_it_has_ended_even_if_nobody_asked_for_it(
    sleeper: Sleeper, until: Until
) -> None:
    process = sleeper()
    record = processes.describe(process.pid, "here")
    assert processes.is_running(process.pid)

    process.kill()
    until(lambda: not processes.is_running(process.pid))

    assert Path(f"/proc/{process.pid}").exists()  # a zombie: its parent has not asked
    assert not processes.is_same(record)
    process.wait()
    assert not processes.is_running(process.pid)


def test_this_process_is_itself() -> None:
    record = processes.describe(os.getpid(), "here")

    assert record["pid"] == os.getpid()
    assert record["host"] == "here"
    assert processes.is_same(record)


def test_small_files_are_written_whole(tmp_path: Path) -> None:
    file = tmp_path / "exit.json"

    processes.write(file, {"claim": 1})
    processes.write(file, {"claim": 2, "why": "训练"})

    assert processes.read(file) == {"claim": 2, "why": "训练"}
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("content", [None, b"", b'{"claim"', b"[1]", b"\xff"])
def test_what_is_no_record_is_none(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "exit.json"
    if content is not None:
        file.write_bytes(content)

    assert processes.read(file) is None


CHILD = """
import logging, os, signal, sys, time
from pathlib import Path
from workers import processes

run = Path(sys.argv[1])
told = []
processes.become_child(run, "here", on_terminate=lambda: told.append("told"))
print("printed")
logging.getLogger("danlu").info("logged")
os.system("echo said by a helper")
while not told:
    time.sleep(0.01)
processes.end_child(run, {"claim": 3, "told": told})
"""


def test_a_child_is_known_while_it_runs_and_says_how_it_ended(tmp_path: Path, until: Until) -> None:
    run = tmp_path / "job_1"
    run.mkdir()
    processes.write(run / processes.EXIT_FILE, {"claim": 2})
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(run)])
    try:
        log = run / "log.txt"
        until(lambda: log.exists() and "helper" in log.read_text())
        known = processes.read(run / processes.PROCESS_FILE)
        left_of_before = (run / processes.EXIT_FILE).exists()
        session = os.getsid(child.pid)
        child.send_signal(signal.SIGINT)  # Ctrl-C is the supervisor's
        processes.ask_to_end(child.pid)

        assert child.wait(30) == 0
    finally:
        child.kill()
        child.wait()
    assert known is not None
    assert known["pid"] == session == child.pid
    assert not left_of_before
    assert processes.read(run / processes.EXIT_FILE) == {"claim": 3, "told": ["told"]}
    assert not (run / processes.PROCESS_FILE).exists()
    assert {"printed", "said by a helper"} < set(log.read_text().splitlines())
    assert "Z logged\n" in log.read_text()


ORPHAN = """
import multiprocessing, sys, time
from pathlib import Path
from workers import processes

def work(run):
    orphaned = {"claim": 5, "state": "released"}
    end = lambda: processes.end_child(run, orphaned)
    told = {"on_orphaned": end} if len(sys.argv) > 2 else {}
    processes.become_child(run, "here", on_terminate=lambda: None, **told)
    time.sleep(60)

if __name__ == "__main__":
    multiprocessing.get_context("fork").Process(target=work, args=(Path(sys.argv[1]),)).start()
"""


HURRIED = """
import resource, signal, sys, threading
from pathlib import Path
from workers import processes

run, how = Path(sys.argv[1]), sys.argv[2]
processes.become_child(run, "here", on_terminate=lambda: None)
if how == "the folder is gone":
    for file in run.iterdir():
        file.unlink()
    run.rmdir()
elif how == "the disk is full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
together = threading.Barrier(2)

def end(claim):
    together.wait()
    processes.end_child(run, {"claim": claim, "padding": "x" * 1_000_000})

threading.Thread(target=end, args=(1,)).start()
end(2)
"""


@pytest.mark.parametrize("how", ["the folder is gone", "the disk is full"])
def test_an_end_that_cannot_be_written_is_told_by_the_exit_code(tmp_path: Path, how: str) -> None:
    run = tmp_path / "job_1"

    done = subprocess.run([sys.executable, "-c", HURRIED, str(run), how], timeout=60, check=False)

    assert done.returncode == processes.UNWRITTEN
    assert processes.read(run / processes.EXIT_FILE) is None


def test_of_two_threads_that_end_a_child_the_first_decides(tmp_path: Path) -> None:
    run = tmp_path / "job_1"

    done = subprocess.run([sys.executable, "-c", HURRIED, str(run), ""], timeout=60, check=False)

    assert done.returncode == 0
    ended = processes.read(run / processes.EXIT_FILE)
    assert ended is not None
    assert ended["claim"] in (1, 2)
    assert {file.name for file in run.iterdir()} == {processes.EXIT_FILE, "log.txt"}


@pytest.mark.parametrize("last_words", [[], ["says so"]])
def test_a_child_does_not_outlive_its_supervisor(
    tmp_path: Path, until: Until, last_words: list[str]
) -> None:
    supervisor = subprocess.Popen([sys.executable, "-c", ORPHAN, str(tmp_path), *last_words])
    try:
        known = until(lambda: processes.read(tmp_path / processes.PROCESS_FILE))
        until((tmp_path / "log.txt").exists)
        assert processes.is_same(known)
    finally:
        supervisor.kill()
        supervisor.wait()

    until(lambda: not members(known["pid"]))
    said = processes.read(tmp_path / processes.EXIT_FILE)
    assert said == ({"claim": 5, "state": "released"} if last_words else None)


WATCHER = """
import json, signal, sys, time
from workers import processes

told = []
signal.signal(signal.SIGTERM, lambda *_: told.append("SIGTERM"))
processes.end_when_parent_does(int(sys.argv[1]))
print("ready", flush=True)
while not told:
    time.sleep(0.01)
print(json.dumps(told))
"""


def test_the_end_of_the_parents_pipe_is_a_sigterm() -> None:
    reading, writing = os.pipe()
    watcher = subprocess.Popen(
        [sys.executable, "-c", WATCHER, str(reading)], stdout=subprocess.PIPE, pass_fds=(reading,)
    )
    try:
        assert watcher.stdout
        assert watcher.stdout.readline() == b"ready\n"
        os.close(writing)
        told, _ = watcher.communicate(timeout=30)
    finally:
        watcher.kill()
        watcher.communicate()
        os.close(reading)

    assert json.loads(told) == ["SIGTERM"]


@pytest.mark.parametrize("written", ["{}", '{"host": "here", "pid": "x"}', "[1]", "{"])
def test_a_damaged_record_keeps_no_worker_from_starting(tmp_path: Path, written: str) -> None:
    record = tmp_path / "job_1" / processes.PROCESS_FILE
    record.parent.mkdir()
    record.write_text(written)

    assert processes.end_stale_groups(tmp_path, "here") == {"job_1"}
    assert not record.exists()
