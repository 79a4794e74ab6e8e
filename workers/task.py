"""What crosses from the supervisor to a child: the task, and the functions that a child starts in.

Torch-free, so that the supervisor stays small; the functions import the work when they run, which
is free in a child of the forkserver.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from database.checkpoints import Known
from database.claims import Fence
from problems import Problem
from workers import processes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """What a supervisor hands to a child: which claim to work on, and where things are."""

    fence: Fence
    kind: str  # of the job
    device: str  # "cpu" for kinds that need none
    database: str
    datasets: Path
    cache: Path
    checkpoints: Path
    weights: Path
    runs: Path
    uploads: Path
    mirrors: tuple[str, ...] = ()
    others: tuple[str, ...] = ()  # devices that share each batch with `device`
    gpu_share: float = 1.0  # of a GPU's memory; the rest is left to predictions

    @property
    def devices(self) -> tuple[str, ...]:
        """All that the job has: its own, and those that it shares batches with."""
        return (self.device, *self.others)

    @property
    def run(self) -> Path:
        """The job's own folder."""
        return self.runs / self.fence.job_id

    @property
    def compiled(self) -> Path:
        """What torch.compile has made, for all jobs."""
        return self.cache.with_name("compiled")


def named(devices: Sequence[str]) -> str:
    """Several devices as one word."""
    return ",".join(dict.fromkeys(devices))


def work(task: Task, host: str, channel: Connection) -> None:
    """Does one job and ends the process. What breaks before the job begins fails it, with a reason
    in its log: an import that raises, a home that cannot be written.
    """
    try:
        from workers import child

        child.main(task, host, channel)
    except Exception as error:
        _fail(task, error)


def _fail(task: Task, error: Exception) -> None:
    log.exception("%s could not begin", task.fence.job_id)
    name, text = type(error).__name__, str(error).partition("\n")[0][:300]
    problem = Problem("job_failed", f"The job's process could not begin: {name}: {text}")
    outcome = {"claim": task.fence.claim, "state": "failed", "stop_reason": None}
    processes.end_child(task.run, {**outcome, "error": problem.as_dict(), "exception": name})


def stand_by(device: str, host: str, channel: Connection) -> None:
    """Makes the device ready and says so; does the job that comes then, and ends the process."""
    from workers import child

    child.stand_by(device, host, channel)


def probe(checkpoints: Path, known: Known, channel: Connection) -> None:
    """Sends the devices of this machine and the pid of the forkserver; sweeps `checkpoints` of
    what a crash left there.
    """
    from workers import probing

    probing.probe(checkpoints, known, channel)
