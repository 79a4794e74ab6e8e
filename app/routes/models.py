"""Aliases: names such as `production` that an app predicts with, each pointing at a checkpoint.

What it takes to point one elsewhere is `app.aliases`'s to know.
"""

import re
from typing import Annotated

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, ConfigDict, Field

from app import aliases, examples
from app.aliases import ModelRead
from app.dependencies import Cursor, Held, Limit, Owner, Reading, Warm
from app.errors import responses
from app.schemas import Page
from database import aliases as rows
from models_store.fields import ALIAS
from problems import Problem

router = APIRouter(prefix="/models", tags=["Models"])

Alias = Annotated[
    str,
    Path(
        description="An alias: letters from a to z, digits and `.` `_` `@` `-`, 64 at most.",
        examples=["production"],
        json_schema_extra={"pattern": ALIAS},
    ),
]


class Target(BaseModel):
    """What to point at."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"checkpoint": examples.CHECKPOINT_ID}]},
    )

    checkpoint: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        description="Id of a checkpoint, or of a job: its best so far, now and for good."
    )


@router.get("", summary="List aliases", responses=responses("not_ready"), dependencies=[Warm])
def list_models(
    session: Reading, held: Held, limit: Limit = 50, cursor: Cursor = None
) -> Page[ModelRead]:
    """By name."""
    page = rows.find(session, limit=limit, cursor=cursor)
    return Page(items=aliases.read(held, session, page.items), next_cursor=page.next_cursor)


@router.get(
    "/{alias}",
    summary="What an alias points at",
    responses=responses("model_not_found", "not_ready"),
    dependencies=[Warm],
)
def get_model(alias: Alias, session: Reading, held: Held) -> ModelRead:
    """And what it pointed at before."""
    [found] = aliases.read(held, session, [rows.meant(session, alias)])
    return found


@router.put(
    "/{alias}",
    summary="Point an alias at a checkpoint",
    responses=responses(
        *("checkpoint_not_found", "job_not_found", "checkpoint_damaged", "parity_failed"),
        *("invalid_json", "unsupported_media_type", "unknown_field", "body_too_large", "not_ready"),
    ),
    dependencies=[Warm],
)
async def put_model(
    alias: Alias, target: Annotated[Target, Body()], held: Held, owner: Owner
) -> ModelRead:
    """Answers once the checkpoint is loaded and the alias points at it; until then requests are
    answered by what it pointed at before, and none fails. Other server processes follow within half
    a second. To roll back, point it at the one before, which `history` names.
    """
    if not re.fullmatch(ALIAS, alias):
        raise Problem(
            "invalid_request",
            f"{alias[:80]!r} cannot be an alias.",
            hint="Take up to 64 letters from a to z, digits, '.', '_', '@' and '-', beginning "
            "with a letter or digit.",
            errors=[{"loc": ["path", "alias"], "msg": "not a name for an alias"}],
        )
    return await aliases.point(held, alias, target.checkpoint, by=owner)


@router.delete(
    "/{alias}", status_code=204, summary="Delete an alias", responses=responses("model_not_found")
)
def delete_model(alias: Alias, held: Held) -> None:
    """The checkpoint stays. What the alias pointed at is known again when it is put anew."""
    with held.writing.begin() as session:
        rows.remove(session, alias)
    held.models.forget()
