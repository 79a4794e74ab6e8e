"""The server itself: whether it lives, whether it is ready, and what it runs on."""

import os
import platform
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from pydantic import Field
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app import examples, metrics
from app.dependencies import Held, Reading
from app.errors import ProblemResponse, responses
from app.resources import Resources
from app.schemas import Read, shown
from database import jobs, processes
from database.tables import Process
from problems import Problem

router = APIRouter(tags=["System"])

_TEXT = {"schema": {"type": "string"}}
_PACKAGES = ("danlu", "torch", "torchvision", "fastapi", "numpy", "pillow", "sqlalchemy")


class HealthRead(Read):
    """The server answers."""

    status: Literal["ok"]


class ReadinessRead(Read):
    """What the server can do now; it serves without a worker too, but nothing trains."""

    model_config = shown(examples.READINESS)

    status: Literal["ready"]
    database: Literal["ok"]
    worker: Literal["ok", "none"]
    models: Literal["ok"] = Field(description="torch and the models of aliases are loaded.")


class ProcessRead(Read):
    """A process of ours that was alive within the last 15 seconds."""

    role: str
    pid: int
    host: str
    job_id: str | None
    device: str | None


class SpaceRead(Read):
    """Memory or disk, in bytes; of memory what can be had is free, caches too."""

    total: int
    free: int


class SystemRead(Read):
    """What the server runs on, and what runs."""

    model_config = shown(examples.SYSTEM)

    home: str
    datasets_dir: str
    versions: dict[str, str]
    cpus: int
    devices: list[str] = Field(description="What workers train on now, and the server predicts on.")
    predict_device: str
    memory: SpaceRead | None
    disk: SpaceRead
    queue: dict[str, int] = Field(description="Active jobs by state.")
    processes: list[ProcessRead]
    warm_models: list[str] = Field(description="Checkpoints that are loaded.")


@router.get("/healthz", summary="Is it alive?", responses=responses())
async def get_health() -> HealthRead:
    """Answers as soon as the server listens, whatever else goes on."""
    return HealthRead(status="ok")


@router.get(
    "/readyz",
    response_model=ReadinessRead,
    summary="Is it ready to serve?",
    responses=responses("not_ready"),
)
def get_readiness(held: Held) -> ReadinessRead | Response:
    """503 while torch loads (seconds) or the database does not answer; the body says which."""
    states = (held.warmup.state, held.preloading.state)
    models = next((one for one in states if one != "ok"), "ok")
    database, worker = _database(held)
    if models == "ok" and database == "ok":
        return ReadinessRead(status="ready", database=database, worker=worker, models=models)
    state = {"database": database, "worker": worker, "models": models}
    reasons = {
        "loading": "torch and models are still being loaded.",
        "failed": "torch cannot be loaded.",
    }
    reason = "The database does not answer." if database != "ok" else reasons[models]
    return ProblemResponse(Problem("not_ready", reason), extra=state)


@router.get(
    "/metrics",
    response_class=Response,
    summary="What Prometheus collects",
    responses={
        200: {
            "content": {
                metrics.PLAIN: {**_TEXT, "example": examples.METRICS},
                metrics.OPEN_METRICS: _TEXT,
            }
        },
        **responses(),
    },
)
async def get_metrics(request: Request, held: Held) -> Response:
    """Counters, gauges and histograms of this server process since it started: requests,
    predictions, warm models, jobs. As OpenMetrics when `Accept` asks for it. Needs the key like any
    other address: `authorization` in Prometheus' scrape configuration.
    """
    text, media_type = await anyio.to_thread.run_sync(
        metrics.page, held, request.headers.get("accept", ""), limiter=held.measuring
    )
    return Response(text, headers={"Content-Type": media_type, "Cache-Control": "no-store"})


@router.get("/system", summary="Versions, devices, space and processes", responses=responses())
def get_system(session: Reading, held: Held) -> SystemRead:
    """For a look at what runs where."""
    settings = held.settings
    alive = processes.alive(session)
    usage = shutil.disk_usage(settings.home)
    active = jobs.find(session, states=jobs.ACTIVE, limit=10_000).items
    return SystemRead(
        home=str(settings.home),
        datasets_dir=str(settings.datasets),
        versions=_versions(),
        cpus=os.cpu_count() or 1,
        devices=_devices(alive, held.predict_device()),
        predict_device=held.predict_device(),
        memory=_memory(),
        disk=SpaceRead(total=usage.total, free=usage.free),
        queue=dict(Counter(str(job.state) for job in active)),
        processes=[ProcessRead.model_validate(row) for row in alive],
        warm_models=[one.checkpoint_id for one in held.predictor.pool.warm()],
    )


def _database(held: Resources) -> tuple[Literal["ok", "failed"], Literal["ok", "none"]]:
    try:
        with held.reading() as session:
            session.execute(text("SELECT 1"))
            rows = processes.alive(session)
    except SQLAlchemyError:
        return "failed", "none"
    return "ok", "ok" if any(row.role == "supervisor" for row in rows) else "none"


def _devices(alive: Sequence[Process], predict_device: str) -> list[str]:
    told: list[Any] = [d for row in alive for d in (row.info or {}).get("devices", ())]
    used = [row.device for row in alive if row.device]
    return sorted({*map(str, told), *used, predict_device})


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _memory() -> SpaceRead | None:
    """Of this machine, where the system tells."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total = page * os.sysconf("SC_PHYS_PAGES")
        return SpaceRead(total=total, free=_available() or page * os.sysconf("SC_AVPHYS_PAGES"))
    except (ValueError, OSError, AttributeError):
        return None


def _available() -> int | None:
    """Bytes that can be had without swapping: also what files are cached in, most of it in the end
    on a machine that reads images. None where the system does not say.
    """
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None
