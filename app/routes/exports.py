"""Exports of a checkpoint: asked for here, made by a worker, downloaded like the weights."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app import views
from app.dependencies import CheckpointId, Owner, Setup, Writing
from app.errors import responses
from app.schemas import JobRead
from database import checkpoints, jobs
from database.tables import Job
from models_store import exports
from models_store.exports import Export, Format
from problems import Problem

router = APIRouter(prefix="/checkpoints", tags=["Checkpoints"])

_LOCATION = {"Location": {"description": "Address of the job.", "schema": {"type": "string"}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": JobRead,
        "description": "It has been exported: this is the job that did it.",
        "headers": _LOCATION,
    },
    202: {"description": "The job is queued, or at work already.", "headers": _LOCATION},
    **responses(
        *("checkpoint_not_found", "invalid_json", "unsupported_media_type", "unknown_field"),
        *("body_too_large", "too_many_queued"),
    ),
}


class ExportRequest(BaseModel):
    """What to make."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"format": "onnx"}]}
    )

    format: Format = Field(
        description="onnx: the network with its normalization and calibration, compared with "
        "PyTorch on images of the data set. bundle: a zip of it with labels, a program that runs "
        "it alone, and an image."
    )


@router.post(
    "/{id}/exports",
    status_code=202,
    response_model=JobRead,
    summary="Export a checkpoint",
    responses=_RESPONSES,
)
def export_checkpoint(
    checkpoint_id: CheckpointId,
    request: Annotated[ExportRequest, Body()],
    session: Writing,
    settings: Setup,
    owner: Owner,
    response: Response,
) -> JobRead:
    """`GET /checkpoints/{id}/download?format=onnx` gives the file once the job has succeeded.
    Asking again makes no second job, unless the checkpoint has been judged since and its
    probabilities are others now.
    """
    checkpoints.get(session, checkpoint_id)
    asked = {"checkpoint": checkpoint_id, "format": request.format}
    job = _at_it(session, asked)
    if job is None:
        made = exports.find(settings.checkpoints / checkpoint_id, request.format)
        if (job := _made_by(session, made)) is not None:
            response.status_code = 200
    if job is None:
        job = jobs.enqueue(
            session,
            kind="export",
            dataset=None,
            recipe=None,
            request=asked,
            owner=owner,
            name=f"{checkpoint_id} as {request.format}",
            max_queued=settings.max_queued_per_owner,
        )
    response.headers["Location"] = f"/jobs/{job.id}"
    return views.job(session, job, settings.runs)


def _at_it(session: Session, asked: dict[str, Any]) -> Job | None:
    """The job that will do or does the same."""
    active = jobs.find(session, states=jobs.ACTIVE, kind="export", limit=1000).items
    return next((job for job in active if job.request == asked), None)


def _made_by(session: Session, made: Export | None) -> Job | None:
    """The job that made what is there; None also when nobody remembers it, or when it failed or was
    cancelled after that.
    """
    if made is None:
        return None
    try:
        job = jobs.get(session, made.job_id)
    except Problem:
        return None
    return None if job.state in (jobs.State.failed, jobs.State.cancelled) else job
