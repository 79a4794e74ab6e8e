"""From rows to what is sent: jobs with their place in the queue, and their checkpoints.

Reads; changes nothing. Knows no requests.
"""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.schemas import (
    CheckpointItem,
    CheckpointOfJob,
    JobItem,
    JobRead,
    MetricsRead,
    ProgressRead,
    WorkerRead,
)
from database import checkpoints, jobs, processes
from database.tables import Checkpoint, Job, State

Queue = Callable[[Job], tuple[int | None, str | None]]


def job(session: Session, row: Job, runs: Path) -> JobRead:
    """One job, with its checkpoints; `runs` is the folder of the runs."""
    fields = _fields(session, row, _queue(session, [row]), runs)
    saved = [
        CheckpointOfJob(
            id=one.id,
            epoch=one.epoch,
            val_accuracy=one.val_accuracy,
            best=one.id == row.best_checkpoint_id,
        )
        for one in checkpoints.of_job(session, row.id)
    ]
    return JobRead(**fields, checkpoints=saved)


def job_items(session: Session, rows: Sequence[Job], runs: Path) -> list[JobItem]:
    """Jobs as a list shows them."""
    queue = _queue(session, rows)
    return [JobItem(**_fields(session, row, queue, runs)) for row in rows]


def checkpoint_items(session: Session, rows: Sequence[Checkpoint]) -> list[CheckpointItem]:
    """Checkpoints as a list shows them, each marked whether it is its job's best."""
    of_jobs = {row.job_id for row in rows if row.job_id is not None}
    best = {jobs.get(session, job_id).best_checkpoint_id for job_id in of_jobs}
    columns = ("id", "job_id", "epoch", "val_accuracy", "val_loss", "disk_bytes", "created_at")
    return [
        CheckpointItem(**{c: getattr(row, c) for c in columns}, best=row.id in best) for row in rows
    ]


def _fields(session: Session, row: Job, queue: Queue, runs: Path) -> dict[str, Any]:
    place, reason = queue(row)
    metrics = {"best_val_accuracy": row.best_val_accuracy} | _said(row.metrics)
    same = (
        "id", "kind", "name", "tags", "owner", "state", "priority", "attempt", "device", "recipe",
        "finishing", "best_checkpoint_id", "warnings", "stop_reason", "error",
        "created_at", "started_at", "finished_at",
    )  # fmt: skip
    return {
        **{column: getattr(row, column) for column in same},
        "queue_position": place,
        "waiting_for": reason,
        "worker": _worker(row),
        "disk_bytes": row.disk_bytes + _bytes_below(runs / row.id),
        "dataset": {"name": row.dataset_name, "version": row.dataset_version},
        "progress": _progress(session, row),
        "metrics": MetricsRead(**metrics),
    }


def _progress(session: Session, row: Job) -> ProgressRead:
    said = {"epochs": (row.recipe or {}).get("epochs")} | _said(row.progress)
    # Until it trains, an attempt says nothing of the epochs that lie behind it.
    if (
        row.metrics
        and not said.get("epoch")
        and said.get("phase") not in ("training", "evaluating")
    ):
        said["epoch"] = jobs.epochs_done(session, row.id)
    return ProgressRead(**said)


def _said(values: dict[str, Any] | None) -> dict[str, Any]:
    """What a worker wrote, without what it left open."""
    return {key: value for key, value in (values or {}).items() if value is not None}


def _bytes_below(folder: Path) -> int:
    """Bytes of its files; a file that goes meanwhile, or a folder that is not there, has none."""
    found = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            found += path.stat().st_size
    return found


def _worker(row: Job) -> WorkerRead | None:
    if row.worker_id is None:
        return None
    return WorkerRead(id=row.worker_id, host=row.worker_host, pid=row.worker_pid)


def _queue(session: Session, rows: Sequence[Job]) -> Queue:
    """Tells of a job its place in the queue and what it waits for; the same queue for all rows."""
    if not any(row.state is State.queued for row in rows):
        return lambda _: (None, None)
    places = jobs.queue_positions(session)
    workers = any(one.role == "supervisor" for one in processes.alive(session))
    at_work = jobs.find(session, states=jobs.AT_WORK, kind="train", limit=1).items

    def tell(row: Job) -> tuple[int | None, str | None]:
        place = places.get(row.id)
        if row.state is not State.queued or place is None:
            return None, None
        holder = at_work[0] if at_work and row.kind == "train" else None
        wanted = (row.recipe or {}).get("devices", 1)
        return place, _reason(place, workers=workers, at_work=holder, devices=wanted)

    return tell


def _reason(place: int, *, workers: bool, at_work: Job | None, devices: int) -> str:
    if not workers:
        return "a worker: none is running, danlu worker starts one"
    if place > 1:
        return "1 job ahead of it" if place == 2 else f"{place - 1} jobs ahead of it"
    if at_work is not None and at_work.device is not None:
        # On the CPU all that share a batch share one place.
        several = devices > 1 and at_work.device != "cpu"
        free = f"{devices} free devices" if several else "a free device"
        return f"{free}: {at_work.id} of {at_work.owner} has {at_work.device}"
    return "a worker that is ready for it"
