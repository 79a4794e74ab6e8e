"""`POST /predict`: images in, labelled probabilities out.

Reads the upload and finds the model; decoding and computing happen in threads.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import anyio
import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app import explanations, predictions, uploads, validation
from app.dependencies import Held, Warm
from app.errors import responses
from app.models import Meant
from app.operation import Operation
from app.predictions import AnswerRead
from app.resources import Resources
from app.uploads import Limits, Upload
from problems import Problem

if TYPE_CHECKING:
    from models_store.classifier import Classifier

router = APIRouter(tags=["Prediction"])

_WAITING_AT_MOST = 256  # requests; more are told to come back

Result = TypeVar("Result")


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
    dependencies=[Warm],
)
async def predict(
    request: Request, response: Response, held: Held, options: Annotated[Options, Query()]
) -> AnswerRead:
    """Three kinds of body: a multipart form with 1 to 64 parts named `file`
    (`curl -F file=@7.png`), one image as it is, whatever its Content-Type
    (`curl --data-binary @7.png`), or JSON with `image_base64`. At most 25 MB and 100 megapixels an
    image, and 200 MB together.

    Of a single image an error is the status of the response. Among several each bad one has an
    `error` of its own and the response is 200. No address and no path is ever fetched. The options
    may come as fields of the form instead.
    """
    began = time.perf_counter()
    settings = held.settings
    upload = await uploads.read(
        request, Limits(settings.max_image_bytes, settings.max_files, _FIELDS)
    )
    options = _merged(request, options, upload)
    explanations.check_count(options.explain, len(upload.images))
    read = time.perf_counter()
    try:
        answer = await _in_time(held, lambda: _answer(held, upload, options))
    except Problem as problem:
        raise _explained(request, problem) from None
    done = time.perf_counter()
    response.headers["Server-Timing"] = (
        f"read;dur={1000 * (read - began):.1f}, predict;dur={1000 * (done - read):.1f}"
    )
    return answer


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


async def _in_time(held: Resources, work: Callable[[], Result]) -> Result:
    """The result of `work`, done in a thread. Raises `Problem` overloaded and too_slow."""
    if held.predicting.statistics().tasks_waiting >= _WAITING_AT_MOST:
        raise Problem("overloaded", "Too many images wait to be classified.")
    seconds = held.settings.predict_timeout_seconds
    try:
        with anyio.fail_after(seconds):
            return await anyio.to_thread.run_sync(
                work, abandon_on_cancel=True, limiter=held.predicting
            )
    except TimeoutError:
        raise Problem("too_slow", f"It took longer than {seconds:g} seconds.") from None


def _explained(request: Request, problem: Problem) -> Problem:
    """Bytes that `curl -d` sent were an image before it took the line ends out of them."""
    by_form = request.headers.get("content-type") == "application/x-www-form-urlencoded"
    if by_form and problem.code in ("not_an_image", "truncated_image"):
        hint = "With curl use --data-binary @image.jpg: -d changes the bytes."
        return Problem(problem.code, problem.detail, hint=hint)
    return problem


def _serving(held: Resources, model: str | None) -> tuple[Meant, "Classifier"]:
    """The checkpoint that is meant, and its classifier."""
    meant = held.models.meant(model)
    try:
        return meant, held.predictor.classifier(meant.checkpoint_id)
    except Problem as problem:
        if problem.code not in ("checkpoint_not_found", "checkpoint_damaged"):
            raise
    # Through another server an alias was pointed elsewhere, and what it pointed at deleted.
    held.models.forget()
    meant = held.models.meant(model)
    return meant, held.predictor.classifier(meant.checkpoint_id)


def _answer(held: Resources, upload: Upload, options: Options) -> AnswerRead:
    meant, classifier = _serving(held, options.model)
    readable = [image.data for image in upload.images if isinstance(image.data, bytes)]
    classified = iter(classifier.classify(readable))
    found = [
        image.data if isinstance(image.data, Problem) else next(classified)
        for image in upload.images
    ]
    if len(found) == 1 and isinstance(found[0], Problem):
        raise found[0]
    pictures = explanations.of(options.explain, upload.images, found, classifier)
    return AnswerRead(
        checkpoint_id=meant.checkpoint_id,
        job_id=meant.job_id,
        model=options.model,
        predictions=[
            predictions.answer(
                image.filename,
                one,
                classes=classifier.manifest.classes,
                top_k=options.top_k,
                threshold=options.threshold,
                explanation=picture,
            )
            for image, one, picture in zip(upload.images, found, pictures, strict=True)
        ],
    )
