"""Processes as the operating system sees them: sessions, signals, groups, who is still alive.

Everything that only POSIX has is here. Knows nothing of training or of the database.
"""

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any, NoReturn, TypedDict

from database.processes import boot_id

log = logging.getLogger(__name__)

PROCESS_FILE = "process.json"
EXIT_FILE = "exit.json"
UNWRITTEN = 74  # EX_IOERR of sysexits.h
BEREAVED = 75  # of a job that lost a process of one of its devices

# Taken once and never given back.
_ending = threading.Lock()


class ProcessRecord(TypedDict):
    """Who a process is: the pid alone could be somebody else's by now."""

    pid: int
    started: str
    boot: str
    host: str


def describe(pid: int, host: str) -> ProcessRecord:
    """The record of a living process."""
    return {"pid": pid, "started": _started(pid), "boot": boot_id(), "host": host}


def is_same(record: ProcessRecord) -> bool:
    """Whether the process of this record is alive: same pid, start time and boot. A zombie is not:
    it may stay for long where the first process of a container buries nobody.
    """
    here = record["boot"] == boot_id() and _started(record["pid"]) == record["started"] != ""
    return here and is_running(record["pid"])


def is_running(pid: int) -> bool:
    """Whether there is such a process that has not ended: a zombie has."""
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in "ZX"
    return False


def end_group(pid: int) -> None:
    """Kills a child's whole session. No error when it is gone already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def ask_to_end(pid: int) -> None:
    """SIGTERM to one process. No error when it is gone already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGTERM)


def end_stale_groups(runs: Path, host: str) -> set[str]:
    """Ends children that outlived their supervisor on this host.

    Returns the jobs of those that had ended before, without a word of how.
    """
    gone = set()
    for file in runs.glob(f"*/{PROCESS_FILE}"):
        record = _record(file)
        if record and record["host"] != host:
            continue  # another machine's, which may well be at work
        if record and is_same(record):
            log.warning("ending process %s of an earlier worker", record["pid"])
            end_group(record["pid"])
        else:
            gone.add(file.parent.name)
        file.unlink(missing_ok=True)
    return gone


def lead_session() -> None:
    """Makes this process the leader of a session of its own, if it is not."""
    if os.getsid(0) != os.getpid():
        os.setsid()


def become_child(
    run: Path,
    host: str,
    *,
    on_terminate: Callable[[], None],
    on_orphaned: Callable[[], None] = lambda: os._exit(1),
) -> None:
    """Makes this process a leader of its own session, known by `process.json`, that writes to
    `log.txt`, hears SIGTERM as `on_terminate` and the end of its supervisor, in a thread, as
    `on_orphaned`. Raises `OSError` when the run's folder cannot be written.
    """
    lead_session()
    run.mkdir(parents=True, exist_ok=True)
    (run / EXIT_FILE).unlink(missing_ok=True)
    write(run / PROCESS_FILE, dict(describe(os.getpid(), host)))
    log_to(run / "log.txt")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to handle
    signal.signal(signal.SIGTERM, lambda *_: on_terminate())
    watch = threading.Thread(
        target=_notice_supervisor, args=(on_orphaned,), name="parent", daemon=True
    )
    watch.start()


def end_child(run: Path, outcome: dict[str, Any]) -> NoReturn:
    """Writes `exit.json` and leaves at once: there is nothing left worth an orderly shutdown.

    Any thread may call it, and the first one decides. Where the file cannot be written (the disk
    is full, the home is gone) the exit code is all that remains: UNWRITTEN.
    """
    _ending.acquire()
    try:
        write(run / EXIT_FILE, outcome)
        (run / PROCESS_FILE).unlink(missing_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        log.exception("the end of the job cannot be written")
        os._exit(UNWRITTEN)
    os._exit(0)


def end_bereaved() -> NoReturn:
    """Leaves at once, since a process that this one needs is gone. Any thread may call it."""
    _ending.acquire()  # how it ends may be decided just now
    os._exit(BEREAVED)


def end_when_parent_does(descriptor: int) -> None:
    """SIGTERM to this process once the pipe of `danlu serve` closes, whatever closed it."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(descriptor, 1):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def log_to(file: Path) -> None:
    """All that this process and its libraries write goes to the job's log."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%SZ",
        stream=sys.stderr,
        force=True,
    )


def read(file: Path) -> dict[str, Any] | None:
    """The JSON object of a small file, or None when there is none that can be read."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write(file: Path, record: dict[str, Any]) -> None:
    """Writes a small JSON file whole: nobody reads half of it."""
    unfinished = file.with_suffix(".tmp")
    with unfinished.open("w") as out:
        json.dump(record, out)
        out.flush()
        os.fsync(out.fileno())
    unfinished.replace(file)


def _record(file: Path) -> ProcessRecord | None:
    """What `become_child` wrote; None for anything else, which must stop no worker."""
    found = read(file) or {}
    try:
        return {
            "pid": int(found["pid"]),
            "started": str(found["started"]),
            "boot": str(found["boot"]),
            "host": str(found["host"]),
        }
    except (KeyError, TypeError, ValueError):
        return None


def _notice_supervisor(on_orphaned: Callable[[], None]) -> None:
    """The parent of a forkserver's child is the forkserver, so getppid() says nothing about the
    supervisor; the sentinel is the end of a pipe that only the supervisor holds.
    """
    supervisor = parent_process()
    if supervisor is not None:
        connection.wait([supervisor.sentinel])
        on_orphaned()


def _started(pid: int) -> str:
    """When a process started, in clock ticks since boot; empty when there is no such process.

    Field 22 of /proc/<pid>/stat (proc(5)); the name in field 2 may hold spaces and parentheses.
    """
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""
