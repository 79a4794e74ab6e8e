"""`POST /datasets`, `PUT /datasets/{name}`: an archive in, an import job out.

The archive goes to disk while it comes in; what is in it is the job's to find out.
"""

from functools import partial
from pathlib import PurePath
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Path, Query, Request, Response

from app import forms, imports
from app.arrivals import Arrival
from app.dependencies import Held, Owner
from app.errors import responses
from app.imports import Submitted, Wanted
from app.resources import Resources
from app.schemas import JobRead
from data_store import catalog, names
from problems import Problem

router = APIRouter(prefix="/datasets", tags=["Data sets"])

_ENDINGS = (".tar.gz", ".tar.bz2", ".tar.xz")
_BINARY = {"type": "string", "format": "binary"}
_FORM: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "required": ["file"],
                "properties": {
                    "file": {**_BINARY, "description": "A zip or tar file of any size."},
                    "name": {
                        "type": "string",
                        "maxLength": names.MOST_BYTES,
                        "default": "",  # else Swagger UI would send the word string
                        "description": "Name of the data set, of any script. Left out: that of the "
                        "file, without its ending.",
                    },
                },
            }
        }
    },
}
_RAW: dict[str, Any] = {
    "required": True,
    "content": {"application/octet-stream": {"schema": _BINARY}},
}
_LOCATION = {"Location": {"description": "Address of the job.", "schema": {"type": "string"}}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": JobRead,
        "description": "The same archive was imported before, by this job.",
        "headers": _LOCATION,
    },
    202: {"description": "The archive is here, and its import is queued.", "headers": _LOCATION},
}
_REFUSALS = ("archive_invalid", "body_too_large", "empty_file", "name_taken", "too_many_queued")


@router.post(
    "",
    status_code=202,
    response_model=JobRead,
    summary="Add a data set",
    openapi_extra={"requestBody": _FORM},
    responses={
        **_ANSWERS,
        **responses(
            *_REFUSALS, "dataset_in_use", "invalid_multipart", "no_file", "unsupported_media_type"
        ),
    },
)
async def add_dataset(request: Request, response: Response, held: Held, owner: Owner) -> JobRead:
    """A zip or tar file with a folder for each class, or with such folders in `train`, `val` and
    `test`: `curl -F file=@pets.zip -F name=pets`. A job imports it, whose `dataset` names the set.

    A name that is taken by other content is refused. The same archive makes no second job, so a
    request whose answer was lost may be sent again.
    """
    async with _arriving(request, held) as arrival:
        named = partial(_name, held, ["body", "name"])
        form = await forms.read(request, arrival.write, fields={"name": named}, example="pets.zip")
        name = form.fields.get("name") or named(_stem(form.filename))
        archive = await arrival.keep()
        work = partial(imports.submit, held, archive, Wanted(name), owner=owner)
        return _answer(response, await run_sync(work))


@router.put(
    "/{name}",
    status_code=202,
    response_model=JobRead,
    summary="Replace a data set, or add to it",
    openapi_extra={"requestBody": _RAW},
    responses={
        **_ANSWERS,
        **responses(*_REFUSALS, "dataset_in_use", "unsupported_media_type"),
    },
)
async def put_dataset(
    request: Request,
    response: Response,
    held: Held,
    owner: Owner,
    name: Annotated[str, Path(description="Of a new data set, or of your own.", examples=["pets"])],
    merge: Annotated[
        bool, Query(description="Add the images to those that are there already.")
    ] = False,
) -> JobRead:
    """The body is the zip or tar file itself: `curl -T pets.zip URL/datasets/pets`. What is there
    stays until the import has succeeded, and goes then; with `merge` it stays too.
    """
    _refuse_forms(request)
    wanted = Wanted(_name(held, ["path", "name"], name), replace=True, merge=merge)
    await run_sync(imports.check_changeable, held, wanted.name)
    async with _arriving(request, held) as arrival:
        async for piece in request.stream():
            await arrival.write(piece)
        archive = await arrival.keep()
        work = partial(imports.submit, held, archive, wanted, owner=owner)
        return _answer(response, await run_sync(work))


def _arriving(request: Request, held: Resources) -> Arrival:
    announced = request.headers.get("content-length", "")
    settings = held.settings
    return Arrival(
        settings.uploads,
        most=settings.max_upload_bytes,
        announced=int(announced) if announced.isdecimal() else None,
    )


def _answer(response: Response, submitted: Submitted) -> JobRead:
    response.headers["Location"] = f"/jobs/{submitted.job.id}"
    response.status_code = 202 if submitted.is_new else 200
    return submitted.job


def _name(held: Resources, loc: list[str | int], text: str) -> str:
    """The name as it is kept: that of the set which is there, if it means one."""
    name = names.checked(text, loc=loc)
    return catalog.own(name, held.settings.datasets) or name


def _stem(filename: str | None) -> str:
    """`pets` of `pets.zip` and of `pets.tar.gz`."""
    name = PurePath((filename or "").replace("\\", "/")).name
    if not name or name == "-":  # curl's name for its standard input
        raise Problem(
            "invalid_request",
            "The data set has no name.",
            hint="Give it one: curl -F file=@pets.zip -F name=pets URL",
            errors=[{"loc": ["body", "name"], "msg": "Field required"}],
        )
    ending = next((each for each in _ENDINGS if name.lower().endswith(each)), "")
    return name[: -len(ending)] if ending else PurePath(name).stem


def _refuse_forms(request: Request) -> None:
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        raise Problem(
            "unsupported_media_type",
            "The body is a form; the archive itself is wanted.",
            hint="With curl: -T pets.zip. POST /datasets takes forms.",
        )
