"""Jobs: listed, watched, read and cancelled. Their states change in `database.jobs` only."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import APIRouter, Body, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app import examples, hangups, histories, imports, planning, png, views
from app.dependencies import Cursor, Held, JobId, Limit, Reading, Setup, Warm, Writing
from app.errors import responses
from app.png import Png
from app.schemas import HistoryRead, JobItem, JobRead, Page
from data_store import catalog, limits
from database import aliases, checkpoints, events, jobs
from database.tables import State
from models_store.fields import Epochs, JobName, Priority, Tags
from problems import Problem, did_you_mean
from settings import Settings

router = APIRouter(prefix="/jobs", tags=["Jobs"])

LONGEST_WAIT_SECONDS = 55.0  # proxies commonly cut off at 60
_BODY_REFUSED = ("invalid_json", "unsupported_media_type", "body_too_large", "unknown_field")
_ANY = f"({'|'.join(State)})"
# Said in the documentation only: a wrong state is told by name.
_STATES = {"pattern": f"^{_ANY}(,{_ANY})*$"}
_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "id": {"type": "string", "pattern": r"^\d+$"},
        "event": {"enum": ["state", "progress", "epoch", "checkpoint", "log", "coach", "end"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"type": "object"},
        },
        "retry": {"type": "integer"},
    },
}


class CancelRequest(BaseModel):
    """How to stop."""

    model_config = ConfigDict(extra="forbid", strict=True)

    finish: bool = Field(
        False, description="true: end after this epoch, evaluate, and succeed with what there is."
    )


class ResumeRequest(BaseModel):
    """What is to be different."""

    model_config = ConfigDict(extra="forbid", strict=True)

    epochs: Epochs | None = Field(None, description="New total of epochs; left out: as before.")


class JobChanges(BaseModel):
    """What may be changed of a job, whatever its state; what is left out stays."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: JobName | None = None
    tags: Tags = Field(default_factory=list)
    priority: Priority = 0


@router.get("", summary="List jobs", responses=responses())
def list_jobs(  # noqa: PLR0913 - the filters of the list
    session: Reading,
    settings: Setup,
    state: Annotated[
        str | None,
        Query(
            description="States, separated by commas: queued, starting, running, cancelling, "
            "succeeded, failed, cancelled.",
            examples=["queued,running"],
            json_schema_extra=_STATES,
        ),
    ] = None,
    active: Annotated[bool | None, Query(description="true: not ended yet. false: ended.")] = None,
    kind: Literal["train", "import", "export"] | None = None,
    owner: Annotated[str | None, Query(description="Whose.")] = None,
    dataset: Annotated[str | None, Query(description="On this data set.")] = None,
    tag: Annotated[str | None, Query(description="With this tag.")] = None,
    sort: Literal["-created_at", "created_at", "-best_val_accuracy"] = "-created_at",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[JobItem]:
    """Newest first, unless `sort` says otherwise. Lists leave `checkpoints` out."""
    page = jobs.find(
        session,
        states=_states(state, active),
        kind=kind,
        owner=owner,
        dataset=_canonical(dataset, settings),
        tag=tag,
        sort=sort,
        limit=limit,
        cursor=cursor,
    )
    return Page(
        items=views.job_items(session, page.items, settings.runs), next_cursor=page.next_cursor
    )


@router.get("/{id}", summary="One job", responses=responses("job_not_found"))
async def get_job(
    request: Request,
    job_id: JobId,
    held: Held,
    wait: Annotated[
        float,
        Query(
            ge=0,
            le=LONGEST_WAIT_SECONDS,
            description="Answer when the job has ended, or after so many seconds.",
        ),
    ] = 0.0,
) -> JobRead:
    """`wait` saves asking again and again: the answer comes when the job has ended."""

    def read() -> JobRead:
        with held.reading() as session:
            return views.job(session, jobs.get(session, job_id), held.settings.runs)

    job = await anyio.to_thread.run_sync(read)
    if wait > 0 and job.state in jobs.ACTIVE:
        end = held.feed.wait_for_end(job_id, seconds=wait)
        if await hangups.while_connected(request, end):
            return await held.feed.once(job_id, read)
        job = await anyio.to_thread.run_sync(read)
    return job


@router.get("/{id}/history", summary="The curves of a job", responses=responses("job_not_found"))
def get_job_history(
    job_id: JobId,
    session: Reading,
    since: Annotated[
        str | None,
        Query(
            pattern=histories.MARK,
            description="`next` of an earlier answer: only what is new since then.",
        ),
    ] = None,
    max_points: Annotated[
        int | None, Query(ge=2, le=100_000, description="At most so many `steps`, evenly taken.")
    ] = None,
) -> HistoryRead:
    """What each epoch measured, and the loss as it went. A job that lost its worker starts a new
    `attempt`. Whenever another worker goes on, `steps` come whole again, in place of those that
    came before: some may have been taken back.
    """
    job = jobs.get(session, job_id)
    return histories.since(session, job, mark=since, max_points=max_points)


@router.get(
    "/{id}/plot.png",
    summary="The curves of a job as a picture",
    response_class=Response,
    responses={
        **png.described("Loss and accuracy by epoch."),
        **responses("job_not_found"),
    },
)
async def get_job_plot(job_id: JobId, held: Held) -> Png:
    """Loss and accuracy of the training and the validation images, all attempts as one line, and
    those of the test part once it was measured. The title is the job's name, where a font of the
    server can write it, and its id.
    """

    def draw() -> bytes:
        with held.reading() as session:
            return histories.drawn(session, jobs.get(session, job_id))

    return Png(await anyio.to_thread.run_sync(draw, limiter=held.drawing))


@router.get(
    "/{id}/events",
    summary="What happens to a job, as it happens",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: `state`, `progress`, `epoch`, `checkpoint`, `log`, "
            "`coach`, and at last `end`; then the stream ends.",
            "content": {"text/event-stream": {"itemSchema": _EVENT, "example": examples.EVENTS}},
        },
        204: {"description": "The job has ended, and the caller has heard of it."},
        **responses("job_not_found"),
    },
)
async def get_job_events(
    job_id: JobId,
    held: Held,
    last_event_id: Annotated[
        int | None,
        Header(
            alias="Last-Event-ID",
            ge=0,
            le=2**63 - 1,
            description="Number of the last event that was heard: all since then come.",
        ),
    ] = None,
) -> Response:
    """All events of the job from its beginning, or after `Last-Event-ID`, each once and in order,
    then new ones within a fraction of a second. A browser's `EventSource` reconnects by itself and
    loses nothing; of `progress` only the last hour is kept. The `data` of each is a JSON object.
    """

    def look() -> int | None:
        """After which event to go on; None: the job has ended, and the caller has heard of it."""
        with held.reading() as session:
            ended = jobs.get(session, job_id).state in jobs.ENDED
            last = last_event_id or 0
            if last > events.newest(session):  # from before a backup was restored
                last = 0
            return (
                None if ended and not events.since(session, last, job_id=job_id, limit=1) else last
            )

    last = await anyio.to_thread.run_sync(look)
    if last is None:
        return Response(status_code=204)
    # A proxy that gathers a response before it passes it on would hold events back.
    headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    stream = held.feed.stream(job_id, after=last)
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


@router.get(
    "/{id}/logs",
    summary="What a job wrote",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The log so far; empty before the job has started.",
            "content": {"text/plain": {"example": "2026-11-23T08:00:01Z mnist_net on cpu\n"}},
        },
        **responses("job_not_found"),
    },
)
def get_job_logs(job_id: JobId, session: Reading, settings: Setup) -> StreamingResponse:
    """The log file of the job's process, as plain text."""
    jobs.get(session, job_id)
    log = settings.runs / job_id / "log.txt"
    # No Content-Length: a running job goes on writing while this is sent.
    return StreamingResponse(_pieces(log), media_type="text/plain; charset=utf-8")


@router.get(
    "/{id}/script",
    summary="A job as one PyTorch file",
    response_class=Response,
    responses={
        200: {
            "description": "The script.",
            "content": {"text/x-python": {"example": examples.SCRIPT}},
        },
        **responses(
            *("job_not_found", "no_script", "dataset_unknown", "dataset_invalid", "not_ready"),
            *("network_misfit", "layers_misfit", "checkpoint_damaged"),
        ),
    },
    dependencies=[Warm],
)
def get_job_script(job_id: JobId, session: Reading, settings: Setup) -> Response:
    """The run of the job as a file that needs torch and torchvision and no danlu: data, network,
    transforms, loss, optimizer, schedule, the loop and the test. `python train.py FOLDER` trains
    again, and ends with about the same accuracy.
    """
    from app import scripts  # torch

    found = scripts.of_job(session, jobs.get(session, job_id), settings)
    disposition = {"Content-Disposition": f'attachment; filename="{found.name}"'}
    return Response(found.text, media_type="text/x-python; charset=utf-8", headers=disposition)


@router.post(
    "/{id}/cancel",
    status_code=202,
    response_model=JobRead,
    summary="Cancel a job",
    responses={
        200: {"model": JobRead, "description": "It was cancelled before."},
        202: {"description": "It is cancelled, or will be as soon as its worker hears of it."},
        **responses("job_not_found", "job_ended", *_BODY_REFUSED),
    },
)
def cancel_job(
    job_id: JobId,
    session: Writing,
    settings: Setup,
    response: Response,
    request: Annotated[CancelRequest | None, Body()] = None,
) -> JobRead:
    """A queued job is cancelled at once; a running one stops at its next step and keeps its
    checkpoints. Asking again is no error. With `{"finish": true}` it ends after this epoch instead,
    is evaluated, and succeeds with `stop_reason` `finished_early`.
    """
    if request is not None and request.finish:
        return views.job(session, jobs.finish_early(session, job_id), settings.runs)
    if jobs.get(session, job_id).state is State.cancelled:
        response.status_code = 200
    cancelled = jobs.cancel(session, job_id)
    imports.withdraw(cancelled, settings)
    return views.job(session, cancelled, settings.runs)


@router.post(
    "/{id}/resume",
    status_code=202,
    summary="Resume a job",
    responses=responses(
        "job_not_found",
        "job_active",
        "job_not_resumable",
        "dataset_unknown",
        "dataset_invalid",
        "dataset_changed",
        "dataset_in_use",
        "too_many_queued",
        "not_ready",
        *_BODY_REFUSED,
    ),
    dependencies=[Warm],
)
def resume_job(
    job_id: JobId,
    held: Held,
    request: Annotated[ResumeRequest | None, Body()] = None,
) -> JobRead:
    """A job that failed or was cancelled goes on after the last epoch that it saved, as its next
    attempt. One that succeeded does too when it is given more `epochs`: its schedule is then that
    of the longer run.
    """
    epochs = None if request is None else request.epochs
    most = held.settings.max_queued_per_owner
    with held.reading() as session:  # what would make a failed job of it
        job = jobs.get(session, job_id)
        imports.check_settled(session, job.dataset_name or "")
        planning.check_goes_on(session, job, held.settings)
    with held.writing.begin() as session:
        row = jobs.resume(session, job_id, epochs=epochs, max_queued=most)
        if row.dataset_name is not None:  # it may have been deleted since
            catalog.canonical(row.dataset_name, held.settings.datasets)
        return views.job(session, row, held.settings.runs)


@router.patch(
    "/{id}",
    summary="Change a job",
    responses=responses("job_not_found", *_BODY_REFUSED),
)
def change_job(
    job_id: JobId, session: Writing, settings: Setup, changes: Annotated[JobChanges, Body()]
) -> JobRead:
    """Its name, its tags, or its priority, which counts while it is queued."""
    given = {field: getattr(changes, field) for field in changes.model_fields_set}
    return views.job(session, jobs.change(session, job_id, **given), settings.runs)


@router.delete(
    "/{id}",
    status_code=204,
    summary="Delete a job",
    responses=responses("job_not_found", "job_active", "checkpoint_in_use", "not_ready"),
    dependencies=[Warm],
)
def delete_job(job_id: JobId, held: Held) -> None:
    """Frees what `disk_bytes` says: its checkpoints, its log, and the state to resume from. While a
    job that has not ended needs one of the checkpoints, or an alias points at one, they stay.
    """
    from models_store import checkpoints as files  # torch

    # Committed before the files go: a crash in between leaves files without a row, which are swept.
    run = held.settings.runs / job_id
    with held.writing.begin() as session:
        _refuse_if_needed(session, job_id)
        saved = jobs.remove(session, job_id)
        if limits.free_bytes(held.settings.home) < limits.SPARE_BYTES:
            # A full disk has no room to write down that less is wanted. A job may be without these.
            files.remove(run)
    held.models.forget()
    for checkpoint_id in saved:
        held.predictor.pool.forget(checkpoint_id)
        files.remove(held.settings.checkpoints / checkpoint_id)
    files.remove(run)


def _refuse_if_needed(session: Session, job_id: str) -> None:
    """Raises `Problem` checkpoint_in_use when an alias or another job needs a checkpoint of this
    one.
    """
    needed, saved = checkpoints.needed(session), checkpoints.of_job(session, job_id)
    aliases.refuse_if_pointed_at(session, [one.id for one in saved])
    for one in saved:
        if one.id in needed:
            raise Problem(
                "checkpoint_in_use",
                f"{one.id} of {job_id} is needed by {needed[one.id]}, which has not ended.",
            )


def _states(text: str | None, active: bool | None) -> set[State] | None:
    """The states that pass both filters; None for all."""
    wanted = set(State) if text is None else {_state(word) for word in text.split(",")}
    if active is not None:
        wanted &= jobs.ACTIVE if active else jobs.ENDED
    return None if wanted == set(State) else wanted


def _state(word: str) -> State:
    try:
        return State(word.strip())
    except ValueError:
        raise Problem(
            "invalid_request",
            f"There is no state {word.strip()[:80]!r}.",
            hint=did_you_mean(word.strip()[:80], [state.value for state in State]),
            errors=[{"loc": ["query", "state"], "msg": f"one of {', '.join(State)}"}],
        ) from None


def _canonical(dataset: str | None, settings: Settings) -> str | None:
    """The data set that is meant; a name that does not exist any more may still have jobs."""
    if dataset is None:
        return None
    try:
        return catalog.canonical(dataset, settings.datasets)
    except Problem:
        return dataset


def _pieces(log: Path) -> Iterator[bytes]:
    try:
        file = log.open("rb")
    except FileNotFoundError:
        return
    with file:
        while piece := file.read(65_536):
            yield piece
