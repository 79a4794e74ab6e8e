"""`POST /train`: a recipe becomes a queued job, or with `dry_run` a plan of what it would do."""

import hashlib
import json
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Body, Header, Query, Response
from fastapi.openapi.models import Example
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from app import imports, planning, views
from app.dependencies import Held, Owner, Warm
from app.errors import responses
from app.planning import Planned
from app.resources import Resources
from app.schemas import JobRead, LayerRead, PlanRead
from database import idempotency, jobs
from database.tables import Job
from models_store import recipe as recipes
from models_store.fields import SubmittedRecipe
from settings import Settings

router = APIRouter(tags=["Training"])

_EXAMPLES: dict[str, Example] = {
    "digits": {
        "summary": "Real handwritten digits, trained in seconds without a download",
        "value": {"dataset": "digits"},
    },
    "own": {
        "summary": "A few things said, the rest left to the defaults",
        "value": {
            "dataset": "digits",
            "epochs": 5,
            "batch_size": 64,
            "optimizer": {"name": "SGD", "lr": 0.05, "momentum": 0.9},
            "name": "first try",
        },
    },
    "notes": {
        "summary": "A ready-made recipe, with fewer epochs",
        "value": {"recipe": "notes-mnist", "epochs": 2},
    },
}

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": PlanRead, "description": "With `dry_run=true`: the plan. No job is made."},
    202: {
        "description": "The job is queued.",
        "headers": {
            "Location": {"description": "Address of the job.", "schema": {"type": "string"}},
            "Idempotency-Replayed": {
                "description": "`true`: the request came before; this is the job that it made.",
                "schema": {"type": "string", "enum": ["true"]},
            },
        },
    },
    **responses(
        "invalid_json",
        "unsupported_media_type",
        "body_too_large",
        "dataset_unknown",
        "architecture_unknown",
        "recipe_unknown",
        "unknown_field",
        "optimizer_unknown",
        "scheduler_unknown",
        "loss_unknown",
        "lr_twice",
        "transform_unknown",
        "transforms_misfit",
        "network_misfit",
        "layers_misfit",
        "network_too_large",
        "dataset_invalid",
        "dataset_in_use",
        "idempotency_conflict",
        "checkpoint_not_found",
        "checkpoint_damaged",
        "weights_misfit",
        "device_unavailable",
        "too_many_queued",
        "not_ready",
    ),
}


@router.post(
    "/train",
    status_code=202,
    response_model=JobRead,
    summary="Train a network",
    responses=_RESPONSES,
    dependencies=[Warm],
)
def train(
    submitted: Annotated[SubmittedRecipe, Body(openapi_examples=_EXAMPLES)],
    held: Held,
    owner: Owner,
    response: Response,
    dry_run: Annotated[
        bool, Query(description="Only say what would be done: layers, parameters, steps.")
    ] = False,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=200,
            description="Any text of your own for this request. Sent again within 24 hours, the "
            "same request makes no second job.",
        ),
    ] = None,
) -> JobRead | Response:
    """`{"dataset": "digits"}` is enough: every default comes from the data set, and the job says
    which. The recipe is checked here, down to the shape that reaches each layer, before a job is
    made; the job is stored before the answer leaves.
    """
    once = None if key is None or dry_run else _Once(owner, key, _digest(submitted))
    if once is not None:
        with held.reading() as session:
            if made := once.job_id(session):
                return _replay(session, made, held, response)
    with held.reading() as session:
        imports.check_settled(session, recipes.wanted_dataset(submitted))
        planning.check_no_job(session, submitted.init_from)
    planned = planning.plan(submitted, held.settings)
    with held.reading() as session:
        planning.check_devices(session, planned.recipe)
    if dry_run:
        with held.reading() as session:
            return JSONResponse(_plan(session, planned).model_dump(mode="json"))
    with held.writing.begin() as session:
        # Looked up again: the same request may come twice at once.
        if once is not None and (made := once.job_id(session)):
            return _replay(session, made, held, response)
        row = _enqueue(session, submitted, planned, owner, held.settings)
        if once is not None:
            once.remember(session, row.id)
        response.headers["Location"] = f"/jobs/{row.id}"
        return views.job(session, row, held.settings.runs)


class _Once(NamedTuple):
    """A request that makes a job once, however often it comes."""

    owner: str
    key: str
    digest: str

    def job_id(self, session: Session) -> str | None:
        return idempotency.job_of(session, **self._asdict())

    def remember(self, session: Session, job_id: str) -> None:
        idempotency.remember(session, **self._asdict(), job_id=job_id)


def _digest(submitted: SubmittedRecipe) -> str:
    """Of the JSON that was submitted, whatever the order of its fields."""
    said = submitted.model_dump(mode="json", exclude_unset=True)
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _replay(session: Session, job_id: str, held: Resources, response: Response) -> JobRead:
    response.headers["Location"] = f"/jobs/{job_id}"
    response.headers["Idempotency-Replayed"] = "true"
    return views.job(session, jobs.get(session, job_id), held.settings.runs)


def _enqueue(
    session: Session, submitted: SubmittedRecipe, planned: Planned, owner: str, settings: Settings
) -> Job:
    imports.check_settled(session, planned.recipe.dataset)  # it may have come meanwhile
    planning.check_there(session, planned.recipe, settings)  # and these may have gone
    return jobs.enqueue(
        session,
        kind="train",
        dataset=planned.recipe.dataset,
        recipe=planned.recipe.model_dump(mode="json"),
        owner=owner,
        name=submitted.name,
        tags=submitted.tags,
        priority=submitted.priority,
        max_queued=settings.max_queued_per_owner,
    )


def _plan(session: Session, planned: Planned) -> PlanRead:
    from models_store import architectures  # torch

    network = planned.network
    return PlanRead(
        recipe=planned.recipe.model_dump(mode="json"),
        layers=[LayerRead.model_validate(layer) for layer in network.layers],
        parameters=network.parameters,
        flops=architectures.flops(network),
        steps=planned.steps,
        estimated_seconds=planning.estimated_seconds(session, planned),
    )
