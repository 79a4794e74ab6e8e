"""`POST /predict`: images in, labelled probabilities out.

Reads the upload and finds the checkpoint; decoding and computing are `app.predictor`'s to see to.
"""

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send

from app import explanations, hangups, root_path, uploads, validation
from app.errors import responses
from app.models import Meant
from app.operation import Operation
from app.predictions import AnswerRead
from app.predictor import Asked
from app.resources import Resources
from app.uploads import Limits, Upload
from problems import Problem

# Of queries that are remembered: how many, and how long.
_QUERIES, _QUERY_BYTES = 1000, 500


router = APIRouter(tags=["Prediction"])


class Options(BaseModel):
    """What is asked for, in the query or in form fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None,
        description="An alias, or the id of a checkpoint, or of a job: its best so far. Left out: "
        "the alias `default`; on a server without any alias the best of the newest job that "
        "succeeded.",
    )
    top_k: int = Field(5, ge=1, le=1000, description="So many classes, the most probable first.")
    threshold: float = Field(
        0.0, ge=0, le=1, description="A best guess that is less probable is marked `unknown`."
    )
    explain: explanations.Method | None = Field(
        None,
        description="Sends a picture with each answer: the pixels that the network saw (`input`), "
        "or what among them speaks for the label (`gradcam`). For 8 files at most.",
    )


_FIELDS = list(Options.model_fields)
_known: OrderedDict[bytes, Options] = OrderedDict()
_BINARY = {"type": "string", "format": "binary"}
# Written by hand: FastAPI describes many files in a way that Swagger UI shows no file picker for.
# The options are taken as form fields too, but not listed: it would fill them in and send them.
_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "required": ["file"],
                "properties": {
                    "file": {
                        "type": "array",
                        "items": _BINARY,
                        "minItems": 1,
                        "maxItems": 64,
                        "description": "The images: the part named file, once for each.",
                    }
                },
            }
        },
        "image/*": {"schema": _BINARY},
        "application/json": {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "required": ["image_base64"],
                "properties": {
                    "image_base64": {
                        "type": "string",
                        "minLength": 4,
                        "pattern": "^(data:[^,]*,)?(?:[A-Za-z0-9+/]{4})*"
                        "(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
                        "description": "The bytes of an image, with or without "
                        "`data:image/png;base64,` before it.",
                    }
                },
            },
            "example": {
                "image_base64": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptV"
                "AAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
            },
        },
    },
}


@router.post(
    "/predict",
    summary="Classify images",
    response_model=AnswerRead,
    openapi_extra={"requestBody": _BODY},
    responses={
        200: {
            "headers": {
                "Server-Timing": {
                    "description": "Milliseconds for reading the upload and for predicting.",
                    "schema": {"type": "string"},
                }
            }
        },
        **responses(
            *("not_an_image", "truncated_image", "unsupported_format", "empty_file", "no_file"),
            *("invalid_json", "invalid_multipart", "unknown_field", "unsupported_media_type"),
            *("image_too_large", "body_too_large", "too_many_files"),
            *("model_not_found", "model_required", "no_model_yet"),
            *("checkpoint_not_found", "checkpoint_damaged"),
            *("no_feature_map", "overloaded", "not_ready", "too_slow"),
        ),
    },
)
async def predict(request: Request, options: Annotated[Options, Query()]) -> Response:
    """Three kinds of body: a multipart form with 1 to 64 parts named `file`
    (`curl -F file=@7.png`), one image as it is, whatever its Content-Type
    (`curl --data-binary @7.png`), or JSON with `image_base64`. At most 25 MB and 100 megapixels an
    image, and 200 MB together.

    Of a single image an error is the status of the response. Among several each bad one has an
    `error` of its own and the response is 200. No address and no path is ever fetched. The options
    may come as fields of the form instead.
    """
    query = request.scope["query_string"]
    if len(query) <= _QUERY_BYTES:
        if len(_known) >= _QUERIES:
            _known.popitem(last=False)
        _known[query] = options
    return await _answer(request, options)


class Direct:
    """Answers `POST /predict` before FastAPI looks for its route, where it has worked out the same
    query before: that takes longer than a small network does, and the queries of an app are few.
    """

    def __init__(self, app: ASGIApp, *, handlers: Mapping[Any, ExceptionHandler]) -> None:
        self.app = app
        self._direct = ExceptionMiddleware(_direct, handlers=handlers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        is_ours = (
            scope["type"] == "http"
            and scope["method"] == "POST"
            and root_path.rest(scope) == "/predict"
            and scope["query_string"] in _known
        )
        await (self._direct if is_ours else self.app)(scope, receive, send)


async def _direct(scope: Scope, receive: Receive, send: Send) -> None:
    scope["route"] = router.routes[0]
    response = await _answer(Request(scope, receive, send), _known[scope["query_string"]])
    await response(scope, receive, send)


async def _answer(request: Request, options: Options) -> Response:
    began = time.perf_counter()
    held: Resources = request.app.state.resources
    if held.predictor.is_full:
        await held.predictor.room()
    settings = held.settings
    limits = Limits(settings.max_image_bytes, settings.max_files, _FIELDS)
    upload = await uploads.read(request, limits, held.bodies)
    if upload.fields or options.explain:
        options = _merged(request, options, upload)
        explanations.check_count(options.explain, len(upload.images))
    if len(upload.images) == 1 and isinstance(upload.images[0].data, Problem):
        raise upload.images[0].data
    read = time.perf_counter()
    try:
        meant, predictions = await hangups.while_connected(
            request, _predicted(held, upload, options)
        )
    except Problem as problem:
        raise _explained(request, problem) from None
    done = time.perf_counter()
    timing = f"read;dur={1000 * (read - began):.1f}, predict;dur={1000 * (done - read):.1f}"
    about = {
        "checkpoint_id": meant.checkpoint_id,
        "job_id": meant.job_id,
        "model": options.model,
    }
    content = to_json(about)[:-1] + b',"predictions":' + predictions + b"}"
    return Response(content, media_type="application/json", headers={"Server-Timing": timing})


async def _predicted(held: Resources, upload: Upload, options: Options) -> tuple[Meant, bytes]:
    """The checkpoint that is meant, and the answers of it."""

    def asked(meant: Meant) -> Asked:
        return Asked(
            meant.checkpoint_id,
            [image.filename for image in upload.images],
            [image.data for image in upload.images],
            top_k=options.top_k,
            threshold=options.threshold,
            explain=options.explain,
        )

    meant = await held.models.find(options.model)
    try:
        return meant, await held.predictor.classify(asked(meant))
    except Problem as problem:
        if problem.code not in ("checkpoint_not_found", "checkpoint_damaged"):
            raise
        # Through another server an alias was pointed elsewhere, and what it pointed at deleted.
        now = await held.models.find_again(options.model)
        if now == meant:
            raise
    return now, await held.predictor.classify(asked(now))


def _merged(request: Request, options: Options, upload: Upload) -> Options:
    """The options of the query and those of the form. Raises `Problem` for one that is in both."""
    twice = [name for name in upload.fields if name in request.query_params]
    if twice:
        raise Problem(
            "invalid_request",
            f"{twice[0]} is given twice, in the query and in the form.",
            hint="Give it once.",
            errors=[{"loc": ["body", name], "msg": "given in the query too"} for name in twice],
        )
    if not upload.fields:
        return options
    try:
        return Options.model_validate({**options.model_dump(exclude_unset=True), **upload.fields})
    except ValidationError as error:
        found = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
        raise validation.problem(Operation({}, {}), found) from None


def _explained(request: Request, problem: Problem) -> Problem:
    """Bytes that `curl -d` sent were an image before it took the line ends out of them."""
    by_form = request.headers.get("content-type") == "application/x-www-form-urlencoded"
    if by_form and problem.code in ("not_an_image", "truncated_image"):
        hint = "With curl use --data-binary @image.jpg: -d changes the bytes."
        return Problem(problem.code, problem.detail, hint=hint)
    return problem
