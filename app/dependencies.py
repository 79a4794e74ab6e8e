"""What endpoints ask for by type: sessions, ids that are ids, the owner, a page of a list.

Knows the resources of the server; knows no endpoint.
"""

import contextlib
from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Header, Path, Query, Request
from sqlalchemy.orm import Session

from app import examples
from app.resources import Resources
from database import ids
from problems import Problem
from settings import Settings

# Said in the documentation only: what has another form is not found, rather than not valid.
JOB_ID = {"pattern": ids.JOB}
CHECKPOINT_ID = {"pattern": ids.CHECKPOINT}


async def _resources(request: Request) -> Resources:
    found: Resources = request.app.state.resources
    return found


Held = Annotated[Resources, Depends(_resources)]


async def _settings(held: Held) -> Settings:
    return held.settings


def _reading(held: Held) -> Iterator[Session]:
    with held.reading() as session:
        yield session


def _writing(held: Held) -> Iterator[Session]:
    with held.writing.begin() as session:
        yield session


async def _warm(held: Held) -> None:
    await held.warmup.wait()


async def _job_id(
    job_id: Annotated[
        str,
        Path(
            alias="id",
            description="Id of a job.",
            examples=[examples.JOB_ID],
            json_schema_extra=JOB_ID,
        ),
    ],
) -> str:
    return job_id_of(job_id)


async def _checkpoint_id(
    checkpoint_id: Annotated[
        str,
        Path(
            alias="id",
            description="Id of a checkpoint.",
            examples=[examples.CHECKPOINT_ID],
            json_schema_extra=CHECKPOINT_ID,
        ),
    ],
) -> str:
    if not ids.is_checkpoint(checkpoint_id):
        raise Problem("checkpoint_not_found", f"There is no checkpoint {checkpoint_id[:80]!r}.")
    return checkpoint_id


async def _owner(
    user: Annotated[
        str | None,
        Header(
            alias="X-Danlu-User",
            description="Who asks: a label, not security.",
            max_length=200,
        ),
    ] = None,
) -> str:
    """HTTP decodes headers as latin-1; names of other scripts come as UTF-8."""
    name = user or ""
    with contextlib.suppress(UnicodeError):
        name = name.encode("latin-1").decode()
    return name.strip() or "anonymous"


def job_id_of(text: str) -> str:
    """The id, if it looks like one; no path is made of others. Raises `Problem` job_not_found."""
    if not ids.is_job(text):
        raise Problem("job_not_found", f"There is no job {text[:80]!r}.")
    return text


Setup = Annotated[Settings, Depends(_settings)]
# scope="function": committed, or failed, before the response leaves. FastAPI's default commits
# after it, when the client may already ask for the row.
Reading = Annotated[Session, Depends(_reading, scope="function")]
Writing = Annotated[Session, Depends(_writing, scope="function")]
Warm = Depends(_warm)
JobId = Annotated[str, Depends(_job_id)]
CheckpointId = Annotated[str, Depends(_checkpoint_id)]
Owner = Annotated[str, Depends(_owner)]
Limit = Annotated[int, Query(ge=1, le=200, description="At most so many items.")]
Cursor = Annotated[
    str | None,
    Query(
        max_length=500,
        description="`next_cursor` of the page before, with the same `sort`.",
        pattern=r"^[A-Za-z0-9_-]+$",
    ),
]
