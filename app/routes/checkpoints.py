"""Checkpoints: listed, described, downloaded, deleted. Files are `models_store`'s to read."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from app import examples, judged, png, views
from app.dependencies import (
    JOB_ID,
    CheckpointId,
    Cursor,
    Held,
    Limit,
    Reading,
    Setup,
    Warm,
    job_id_of,
)
from app.errors import responses
from app.png import Png
from app.ranges import Download
from app.resources import Resources
from app.schemas import CheckpointItem, Page
from database import aliases, checkpoints, jobs
from database.tables import Checkpoint
from models_store import exports, folders
from models_store.layers import label
from models_store.manifest import Manifest
from models_store.report import Evaluation
from problems import Problem

router = APIRouter(prefix="/checkpoints", tags=["Checkpoints"])

Format = Literal["safetensors", "pt", "onnx", "bundle"]

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILE = {"application/octet-stream": _BINARY, "application/zip": _BINARY}
_DOWNLOAD: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file, named such as `first-try-mnist_net-e12-0.964.safetensors`.",
        "content": _FILE,
    },
    206: {
        "description": "The part of it that `Range` asks for; of several, one after the other.",
        "content": {**_FILE, "multipart/byteranges": _BINARY},
    },
    **responses(
        *("checkpoint_not_found", "not_exported", "checkpoint_damaged", "range_not_satisfiable"),
        "not_ready",
    ),
}


@router.get("", summary="List checkpoints", responses=responses("job_not_found"))
def list_checkpoints(
    session: Reading,
    job: Annotated[
        str | None, Query(description="Only of this job.", json_schema_extra=JOB_ID)
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[CheckpointItem]:
    """Newest first."""
    if job is not None:
        jobs.get(session, job_id_of(job))
    page = checkpoints.find(session, job_id=job, limit=limit, cursor=cursor)
    return Page(items=views.checkpoint_items(session, page.items), next_cursor=page.next_cursor)


@router.get(
    "/{id}",
    summary="What a checkpoint says of itself",
    responses={
        200: {"content": {"application/json": {"example": examples.MANIFEST}}},
        **responses("checkpoint_not_found", "checkpoint_damaged", "not_ready"),
    },
    dependencies=[Warm],
)
def get_checkpoint(checkpoint_id: CheckpointId, session: Reading, settings: Setup) -> Manifest:
    """Its manifest: architecture, classes in order, preprocessing, recipe, metrics, checksums."""
    from models_store import checkpoints as files  # torch

    checkpoints.get(session, checkpoint_id)
    return files.read_manifest(settings.checkpoints / checkpoint_id)


@router.get(
    "/{id}/download",
    summary="Download the weights",
    response_class=Download,
    responses=_DOWNLOAD,
    dependencies=[Warm],
)
def download_checkpoint(
    checkpoint_id: CheckpointId,
    session: Reading,
    settings: Setup,
    format_: Annotated[
        Format,
        Query(
            alias="format",
            description="`safetensors`: weights and nothing that can run code. "
            "`pt`: for `torch.load` and `load_state_dict`. `onnx` and `bundle` must be exported "
            "first: POST /checkpoints/{id}/exports.",
        ),
    ] = "safetensors",
) -> Response:
    """A `state_dict` whose keys are those of the architecture's plain PyTorch class; an ONNX file
    that takes pixels and gives logits and probabilities; or a zip of that with a program.
    """
    from models_store import checkpoints as files  # torch
    from models_store.classifier import network_of

    row = checkpoints.get(session, checkpoint_id)
    folder = settings.checkpoints / checkpoint_id
    manifest = files.read_manifest(folder)
    job_name = None if row.job_id is None else jobs.get(session, row.job_id).name
    name = f"{_stem(row, manifest, job_name)}.{exports.SUFFIXES.get(format_, format_)}"
    if format_ == "onnx" or format_ == "bundle":
        if exports.find(folder, format_) is None:
            raise _not_exported(checkpoint_id, format_)
        return Download(exports.path(folder, format_), filename=name)
    if format_ == "safetensors":
        if why := folders.fault(folder):  # its checksum, too: weights for other programs
            raise folders.damaged(folder, why)
        return Download(folder / files.WEIGHTS, filename=name)
    weights = files.as_pt(network_of(folder, manifest).state_dict())
    disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(weights, media_type="application/octet-stream", headers=disposition)


@router.get(
    "/{id}/report",
    summary="What a checkpoint is worth",
    responses={
        200: {"content": {"application/json": {"example": examples.REPORT}}},
        **responses("checkpoint_not_found", "not_evaluated", "checkpoint_damaged"),
    },
)
def get_checkpoint_report(
    checkpoint_id: CheckpointId, session: Reading, settings: Setup
) -> Evaluation:
    """Accuracy, top-5, figures of each class, confusions, calibration, and the 20 mistakes that it
    was surest of. The best checkpoint of a job is judged when the job ends, on the test part or,
    without one, on the validation images.
    """
    checkpoints.get(session, checkpoint_id)
    return judged.read(settings.checkpoints / checkpoint_id)


@router.get(
    "/{id}/confusion.png",
    summary="The confusion matrix as a picture",
    response_class=Response,
    responses={
        **png.described("The matrix."),
        **responses("checkpoint_not_found", "not_evaluated", "checkpoint_damaged"),
    },
)
async def get_checkpoint_confusion(checkpoint_id: CheckpointId, held: Held) -> Png:
    """Rows are true classes, columns predicted ones. Names that no font of the server can write
    are numbered, as `index` in the report.
    """

    def draw() -> bytes:
        return judged.confusion(_judged(held, checkpoint_id))

    return Png(await anyio.to_thread.run_sync(draw, limiter=held.drawing))


@router.get(
    "/{id}/mistakes.png",
    summary="The surest mistakes as a picture",
    response_class=Response,
    responses={
        **png.described("The images, five in a row."),
        **responses(
            *("checkpoint_not_found", "not_evaluated", "checkpoint_damaged", "not_ready"),
            *("dataset_unknown", "dataset_invalid", "dataset_not_downloaded", "dataset_changed"),
        ),
    },
    dependencies=[Warm],
)
async def get_checkpoint_mistakes(checkpoint_id: CheckpointId, held: Held) -> Png:
    """The images of the report's `mistakes`, read from the data set as it is now, each with its
    class and what it was taken for.
    """
    from models_store import checkpoints as files  # torch

    def draw() -> bytes:
        found = _judged(held, checkpoint_id)
        manifest = files.read_manifest(held.settings.checkpoints / checkpoint_id)
        return judged.mistakes(found, manifest.preprocessing, held.settings)

    return Png(await anyio.to_thread.run_sync(draw, limiter=held.drawing))


@router.delete(
    "/{id}",
    status_code=204,
    summary="Delete a checkpoint",
    responses=responses("checkpoint_not_found", "checkpoint_in_use", "not_ready"),
    dependencies=[Warm],
)
def delete_checkpoint(checkpoint_id: CheckpointId, held: Held) -> None:
    """Frees its disk space. The best checkpoint of a job that still runs stays: the job measures
    the test part on it at the end. So does one that an alias points at, or that a job starts from
    or exports.
    """
    from models_store import checkpoints as files  # torch

    # Committed before the files go: a crash in between leaves files without a row, never a row
    # without its files.
    with held.writing.begin() as session:
        _refuse_if_needed(session, checkpoints.get(session, checkpoint_id))
        checkpoints.remove(session, checkpoint_id)
    held.models.forget()
    held.predictor.pool.forget(checkpoint_id)
    files.remove(held.settings.checkpoints / checkpoint_id)


def _not_exported(checkpoint_id: str, format_: Format) -> Problem:
    ask = f"""curl --json '{{"format": "{format_}"}}' URL/checkpoints/{checkpoint_id}/exports"""
    return Problem(
        "not_exported",
        f"{checkpoint_id} has not been exported to {format_}, or was judged since.",
        hint=f"POST /checkpoints/{{id}}/exports makes it: {ask}",
    )


def _refuse_if_needed(session: Session, row: Checkpoint) -> None:
    """Raises `Problem` checkpoint_in_use."""
    aliases.refuse_if_pointed_at(session, [row.id])
    job = None if row.job_id is None else jobs.get(session, row.job_id)
    if job is not None and job.state in jobs.ACTIVE and job.best_checkpoint_id == row.id:
        raise Problem(
            "checkpoint_in_use",
            f"{row.id} is the best so far of {job.id}, which is {job.state}.",
            hint="Cancel the job or wait for its end.",
        )
    if (other := checkpoints.needed(session).get(row.id)) is not None:
        raise Problem("checkpoint_in_use", f"{row.id} is needed by {other}, which has not ended.")


def _judged(held: Resources, checkpoint_id: str) -> Evaluation:
    with held.reading() as session:
        checkpoints.get(session, checkpoint_id)
    return judged.read(held.settings.checkpoints / checkpoint_id)


def _stem(row: Checkpoint, manifest: Manifest, job_name: str | None) -> str:
    """`name-arch-e12-0.964`, in letters that every file system and header takes."""
    name = job_name or manifest.dataset.get("name") or "danlu"
    if (imported := manifest.made_with.get("imported_from")) is not None:
        name = f"{PurePosixPath(imported).stem}-imported"
    epoch = "" if row.job_id is None else f"-e{row.epoch}"
    accuracy = "" if row.val_accuracy is None else f"-{row.val_accuracy:.3f}"
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "danlu"
    return f"{plain[:60]}-{label(manifest.architecture)}{epoch}{accuracy}"
