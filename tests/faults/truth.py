"""Watches whether what the database says of jobs is so: looked at from outside, all the time."""

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

from tests.faults.service import Service

AT_WORK = ("starting", "running", "cancelling")
LONGEST_WRONG_SECONDS = 15.0
# A process that was just killed takes a moment to go.
GOING_SECONDS = 1.0


class Truth:
    """Use as a context; `faults` is what was found, in words."""

    def __init__(self, service: Service) -> None:
        self.faults: list[str] = []
        self.checkpoints: set[str] = set()
        self._service = service
        self._wrong_since: dict[tuple[str, str], float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="truth", daemon=True)

    def __enter__(self) -> "Truth":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(0.2):
            try:
                self._look()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    self.faults.append(str(error))

    def _look(self) -> None:
        now = time.monotonic()
        states = self._read()
        working = self._service.working()
        # A state is shown only while there is a server to show it.
        shown = bool(self._service.pids()["server"])
        wrong: dict[tuple[str, str], float] = {}
        for job_id, state in states.items():
            alive = working.get(job_id, [])
            if len(alive) > 1:
                wrong[job_id, "runs twice"] = GOING_SECONDS
            if shown and (state in AT_WORK) != bool(alive):
                wrong[job_id, f"is {state} with {len(alive)} processes"] = LONGEST_WRONG_SECONDS
        since = {key: self._wrong_since.get(key, now) for key in wrong}
        self._wrong_since = since
        for key, longest in wrong.items():
            if now - since[key] > longest:
                self.faults.append(f"{key[0]} {key[1]} for {now - since[key]:.1f} s")
                since[key] = now

    def _read(self) -> dict[str, str]:
        path = self._service.home / "danlu.sqlite3"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            rows = dict(database.execute("SELECT id, state FROM jobs").fetchall())
            saved = database.execute("SELECT id FROM checkpoints").fetchall()
        self.checkpoints |= {row[0] for row in saved}
        return rows


def losses(home: Path, job_id: str) -> int:
    with closing(sqlite3.connect(home / "danlu.sqlite3", timeout=5)) as database:
        found = database.execute("SELECT losses FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return int(found[0])
