"""`POST /train`: a recipe becomes a queued job, or with `dry_run` a plan of what it would do."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response
from fastapi.openapi.models import Example
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from app import planning, views
from app.dependencies import Owner, Setup, Warm, Writing
from app.errors import responses
from app.planning import Planned
from app.schemas import JobRead, LayerRead, PlanRead
from database import jobs
from models_store.fields import SubmittedRecipe

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
            "Location": {"description": "Address of the job.", "schema": {"type": "string"}}
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
        "lr_twice",
        "network_misfit",
        "dataset_invalid",
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
    settings: Setup,
    session: Writing,
    owner: Owner,
    response: Response,
    dry_run: Annotated[
        bool, Query(description="Only say what would be done: layers, parameters, steps.")
    ] = False,
) -> JobRead | Response:
    """`{"dataset": "digits"}` is enough: every default comes from the data set, and the job says
    which. The recipe is checked here, down to the shape that reaches each layer, before a job is
    made; the job is stored before the answer leaves.
    """
    planned = planning.plan(submitted, settings)
    if dry_run:
        return JSONResponse(_plan(session, planned).model_dump(mode="json"))
    row = jobs.enqueue(
        session,
        kind="train",
        dataset=planned.recipe.dataset,
        recipe=planned.recipe.model_dump(mode="json"),
        owner=owner,
        name=submitted.name,
        tags=submitted.tags,
        priority=submitted.priority,
    )
    response.headers["Location"] = f"/jobs/{row.id}"
    return views.job(session, row)


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
