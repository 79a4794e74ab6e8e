"""`POST /checkpoints`: weights that were trained elsewhere.

They go to disk while they come in, and are read in a process of their own.
"""

from functools import partial
from typing import Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response

from app import foreign, forms
from app.arrivals import Arrival
from app.dependencies import Held, Warm
from app.errors import responses
from app.schemas import CheckpointItem

router = APIRouter(prefix="/checkpoints", tags=["Checkpoints"])

_FIELD_BYTES = 1_000_000  # a hundred thousand classes, say
_WHAT = "file of weights"
_DESCRIPTIONS = {
    "architecture": "A name from GET /architectures, or a list of layers as JSON.",
    "classes": 'A JSON list such as `["cat", "dog"]`, in the order of the outputs.',
    "input": "Channels x height x width such as `1x28x28`, or JSON with `channels`, `image_size` "
    "and perhaps `normalize`, `transforms` and `invert_from_border`.",
}
_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "required": ["file", *foreign.FIELDS],
                "properties": {
                    "file": {
                        "type": "string",
                        "format": "binary",
                        "description": "A state_dict: `.pth` or `.pt` of torch.save, or "
                        "`.safetensors`.",
                    },
                    **{
                        name: {"type": "string", "description": _DESCRIPTIONS[name]}
                        for name in foreign.FIELDS
                    },
                },
            }
        }
    },
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    201: {
        "description": "The checkpoint is there.",
        "headers": {
            "Location": {"description": "Address of the checkpoint.", "schema": {"type": "string"}}
        },
    },
    **responses(
        *("invalid_multipart", "no_file", "empty_file", "unsupported_media_type", "unknown_field"),
        *("body_too_large", "model_file_invalid", "weights_misfit", "architecture_unknown"),
        *("network_misfit", "layers_misfit", "network_too_large", "not_ready"),
    ),
}


@router.post(
    "",
    status_code=201,
    summary="Import a checkpoint",
    openapi_extra={"requestBody": _BODY},
    responses=_RESPONSES,
    dependencies=[Warm],
)
async def import_checkpoint(request: Request, response: Response, held: Held) -> CheckpointItem:
    """`curl -F file=@module_9.pth -F architecture=cifar10_net -F 'classes=["airplane", …]'
    -F input=3x32x32`. What was saved with `torch.save(model.state_dict(), …)` is taken, also inside
    `{"state_dict": …}` or with `module.` before its keys; a whole pickled model is not, for it may
    hold any code. It predicts, is exported and is started from like one that was trained here.
    """
    settings, announced = held.settings, request.headers.get("content-length", "")
    async with Arrival(
        settings.uploads,
        most=settings.max_model_bytes,
        announced=int(announced) if announced.isdecimal() else None,
        what=_WHAT,
    ) as arrival:
        plain = dict.fromkeys(foreign.FIELDS, str.strip)
        form = await forms.read(
            request,
            arrival.write,
            fields=plain,
            what=_WHAT,
            example="model.pth",
            field_bytes=_FIELD_BYTES,
        )
        upload = await arrival.keep()
    try:
        describe = partial(foreign.described, filename=form.filename, sha256=upload.sha256)
        manifest = await run_sync(describe, form.fields)
        work = partial(foreign.receive, held, upload.path, manifest)
        item = await run_sync(work, limiter=held.receiving)
    finally:
        upload.discard()
    response.headers["Location"] = f"/checkpoints/{item.id}"
    return item
