"""Aliases as they are sent, and what it takes to point one elsewhere without anybody noticing.

What blocks is done in threads; knows no requests.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

import anyio.to_thread
from pydantic import Field
from sqlalchemy.orm import Session

from app import examples, models
from app.figures import Serving
from app.resources import Resources
from app.schemas import Metric, Read, shown
from database import aliases, checkpoints, ids, jobs
from database.tables import Alias, Checkpoint
from models_store.manifest import Manifest
from problems import FieldError, Problem


class PointingRead(Read):
    """What an alias was pointed at."""

    checkpoint_id: str
    job_id: str | None
    updated_at: datetime
    updated_by: str


class ServingRead(Read):
    """What predicting with it takes, and what was asked of it."""

    processes: int = Field(description="In which it is loaded.")
    device: str | None = Field(description="null: it is not loaded.")
    precision: str | None
    memory_bytes: int = Field(description="Of its weights, in all processes together.")
    requests: int
    images: int
    seconds: float = Field(description="Of computing.")
    batches: dict[int, int] = Field(
        description="How many times so many images went through the network together."
    )


class ModelRead(Read):
    """An alias and what it points at. `classes` and `input` are null for damaged files."""

    model_config = shown(examples.MODEL)

    alias: str
    checkpoint_id: str
    job_id: str | None = Field(description="null: the checkpoint was imported.")
    classes: list[str] | None = Field(description="In the order of the outputs.")
    input: str | None = Field(description="Channels x height x width.")
    accuracy: Metric = Field(description="On the validation images; null if it was imported.")
    warm: bool = Field(description="Loaded in the server that answers.")
    serving: ServingRead | None = Field(
        description="Of the server that answers, since it started; null: not asked for there yet."
    )
    updated_at: datetime
    updated_by: str
    history: list[PointingRead] = Field(
        description="The latest 50 things that it was pointed at, newest first: the first is what "
        "it points at now."
    )


def read(held: Resources, session: Session, rows: Sequence[Alias]) -> list[ModelRead]:
    """Aliases as they are sent."""
    told = aliases.history(session, [row.name for row in rows])
    serving = {one.checkpoint_id: one for one in held.predictor.serving()}
    return [
        _read(held, session, row, told[row.name], serving.get(row.checkpoint_id)) for row in rows
    ]


async def point(held: Resources, alias: str, target: str, *, by: str) -> ModelRead:
    """Points an alias at a checkpoint, or at the best so far of a job, once that is loaded: whoever
    asks next waits for nothing.

    Raises `Problem` checkpoint_not_found, job_not_found, checkpoint_damaged, parity_failed,
    not_ready.
    """
    chosen = await anyio.to_thread.run_sync(_chosen_id, held, target)
    await held.predictor.pool.load(chosen)
    return await anyio.to_thread.run_sync(partial(_point, held, alias, chosen, by=by))


def _point(held: Resources, alias: str, chosen: str, *, by: str) -> ModelRead:
    with held.writing.begin() as session:
        row = aliases.point(session, alias, chosen, by=by)
        [made] = read(held, session, [row])
    held.models.forget()
    return made


def _read(
    held: Resources,
    session: Session,
    row: Alias,
    told: Sequence[object],
    serving: Serving | None,
) -> ModelRead:
    checkpoint = checkpoints.get(session, row.checkpoint_id)
    manifest = _manifest(held, checkpoint.id)
    return ModelRead(
        alias=row.name,
        checkpoint_id=checkpoint.id,
        job_id=checkpoint.job_id,
        classes=manifest and manifest.classes,
        input=manifest and _input(manifest),
        accuracy=checkpoint.val_accuracy,
        warm=serving is not None and serving.processes > 0,
        serving=serving and ServingRead.model_validate(serving),
        updated_at=row.updated_at,
        updated_by=row.updated_by,
        history=[PointingRead.model_validate(one) for one in told],
    )


def _manifest(held: Resources, checkpoint_id: str) -> Manifest | None:
    from models_store import checkpoints as files  # torch

    try:
        return files.read_manifest(held.settings.checkpoints / checkpoint_id)
    except Problem:
        return None


def _input(manifest: Manifest) -> str:
    height, width = manifest.preprocessing.input_size
    return f"{manifest.preprocessing.channels}x{height}x{width}"


def _chosen_id(held: Resources, target: str) -> str:
    with held.reading() as session:
        return _chosen(session, target).id


def _chosen(session: Session, target: str) -> Checkpoint:
    if not ids.is_job(target):
        try:
            return checkpoints.get(session, target)
        except Problem as problem:
            hint = "Give the id of a checkpoint or of a job: GET /checkpoints lists what there is."
            raise _wrong(problem.code, problem.detail, hint) from None
    try:
        job = jobs.get(session, target)
    except Problem as problem:
        raise _wrong(problem.code, problem.detail, None) from None
    found = checkpoints.best_of(session, target)
    if found is None:
        raise _wrong("checkpoint_not_found", *models.without_checkpoint(job))
    return found


def _wrong(code: str, detail: str, hint: str | None) -> Problem:
    error: FieldError = {"loc": ["body", "checkpoint"], "msg": "nothing to point at"}
    return Problem(code, detail, hint=hint, errors=[error])
