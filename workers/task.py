"""What crosses from the supervisor to a child: the task, and the functions that a child starts in.

Torch-free, so that the supervisor stays small; the functions import the work when they run, which
is free in a child of the forkserver.
"""

from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from database.claims import Fence


@dataclass(frozen=True, slots=True)
class Task:
    """What a supervisor hands to a child: which claim to work on, and where things are."""

    fence: Fence
    device: str
    database: str
    datasets: Path
    cache: Path
    checkpoints: Path
    runs: Path

    @property
    def run(self) -> Path:
        """The job's own folder."""
        return self.runs / self.fence.job_id


def work(task: Task, host: str, channel: Connection) -> None:
    """Does one job and ends the process."""
    from workers import child

    child.main(task, host, channel)


def probe(channel: Connection, checkpoints: Path, known: frozenset[str]) -> None:
    """Sends the devices of this machine and the pid of the forkserver; sweeps `checkpoints` of
    what a crash left there.
    """
    from workers import child

    child.probe(channel, checkpoints, known)
