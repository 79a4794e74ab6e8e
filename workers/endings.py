"""How the process of a job ended, from what it left behind, and what that means for its row.

`exit.json` says it; without one, the exit code and who else is gone. Knows no processes.
"""

import contextlib
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy.orm import Session

from database import jobs, promotions
from database.jobs import Fence, State
from problems import Problem
from workers import processes

# What a child says of itself; a loss is for others to see.
_SAID = frozenset({"succeeded", "failed", "cancelled", "released"})


@dataclass(frozen=True, slots=True)
class Ending:
    """`lost` and `released` put the job back into the queue; only `lost` counts an attempt."""

    state: Literal["succeeded", "failed", "cancelled", "released", "lost"]
    stop_reason: str | None = None
    error: dict[str, Any] | None = None
    reason: str = ""


RELEASED = Ending("released")


def lost(reason: str) -> Ending:
    """Nobody knows why; `reason` is what can be said."""
    return Ending("lost", reason=reason)


def read(run: Path, claim: int) -> Ending | None:
    """What `exit.json` says of this claim; None without one of it."""
    record = processes.read(run / processes.EXIT_FILE) or {}
    if record.get("claim") != claim or record.get("state") not in _SAID:
        return None
    return Ending(record["state"], record.get("stop_reason"), record.get("error"))


def of_exit_code(code: int | None) -> Ending:
    """Of a process that left nothing else."""
    if code == processes.UNWRITTEN:
        full = Problem(
            "disk_full",
            "The job's folder could not be written: is the disk full?",
            hint="Free some space, or let danlu write to its home; then resume the job.",
        )
        return Ending("failed", error=dict(full.as_dict()))
    if code == processes.BEREAVED:
        return lost("the process of one of its devices ended (its log says how)")
    if code is not None and code < 0:
        return lost(f"its process was ended by signal {-code} ({signal.strsignal(-code)})")
    return lost(f"its process ended with exit code {code}")


def write(session: Session, fence: Fence, ending: Ending) -> None:
    """Writes the ending to the job's row, unless the claim is lost; promotes what came of it."""
    if ending.state == "lost":
        jobs.lose(session, fence, reason=ending.reason)
    elif ending.state == "released":
        jobs.release(session, fence)
    else:
        ended = jobs.finish(
            session,
            fence,
            state=State(ending.state),
            stop_reason=ending.stop_reason,
            error=ending.error,
        )
        if ended and ending.state == "succeeded":
            promotions.settle(session, jobs.get(session, fence.job_id))


def forget_archive(session: Session, job_id: str, uploads: Path) -> None:
    """Removes the archive of an import that has ended, as it may have ended without doing so."""
    try:
        job = jobs.get(session, job_id)
    except Problem:  # deleted already; the server sweeps
        return
    upload = (job.request or {}).get("upload")
    if job.kind == "import" and job.state in jobs.ENDED and upload and upload == Path(upload).name:
        with contextlib.suppress(OSError):
            (uploads / upload).unlink()
