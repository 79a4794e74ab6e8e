"""A checkpoint from elsewhere: what its form says, and its way into the store.

Knows no requests. Blocks, so it is called in threads.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from app import validation, views
from app.operation import Operation
from app.resources import Resources
from app.schemas import CheckpointItem
from database import checkpoints as rows
from database import ids
from models_store import quarantine
from models_store.fields import Channels, Normalize, Size
from models_store.layers import LayerList
from models_store.manifest import Manifest, Preprocessing
from models_store.pipeline import pair
from models_store.transforms import ShapingTransform
from problems import FieldError, Problem

MOST_CLASSES = 100_000

_SHAPE = re.compile(r"([13])x(\d{1,5})x(\d{1,5})")
_CHANNELS_LAST = re.compile(r"(\d{1,5})x(\d{1,5})x([13])")
_HINTS = {
    "architecture": "-F architecture=mnist_net, or a list of layers as JSON.",
    "classes": """-F 'classes=["cat", "dog"]', in the order of the network's outputs.""",
    "input": """-F input=1x28x28 (channels x height x width), or JSON: """
    """'{"channels": 3, "image_size": 224, "normalize": {"mean": […], "std": […]}}'.""",
}
FIELDS = tuple(_HINTS)


class Input(BaseModel):
    """What the network was trained to see; the words are those of recipes and manifests."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    channels: Channels
    image_size: Size | Annotated[list[Size], Field(min_length=2, max_length=2)]
    normalize: Normalize | None = None
    transforms: Annotated[list[ShapingTransform], Field(max_length=16)] = []
    invert_from_border: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _a_number_for_each_channel(self) -> Self:
        norm = self.normalize
        if norm is not None and {len(norm.mean), len(norm.std)} != {self.channels}:
            raise ValueError(f"mean and std need one number for each of {self.channels} channels")
        return self

    def preprocessing(self) -> Preprocessing:
        """As a manifest has it."""
        height, width = pair(self.image_size)
        return Preprocessing(
            height=height,
            width=width,
            channels=self.channels,
            transforms=self.transforms,
            normalize=self.normalize,
            invert_from_border=self.invert_from_border,
            trained_height=height,
            trained_width=width,
        )


_Class = Annotated[str, Field(min_length=1, max_length=1000)]
_CLASSES: TypeAdapter[list[str]] = TypeAdapter(
    Annotated[list[_Class], Field(min_length=1, max_length=MOST_CLASSES)]
)
_LAYERS = TypeAdapter(LayerList)
_INPUT = TypeAdapter(Input)


def described(fields: Mapping[str, str], *, filename: str | None, sha256: str) -> Manifest:
    """The manifest of what a form describes; its network's shapes fit together.

    Raises `Problem` invalid_request, unknown_field, architecture_unknown, network_misfit,
    layers_misfit, network_too_large, each with the form's field.
    """
    from models_store import architectures  # torch

    if missing := [name for name in FIELDS if name not in fields]:
        raise _wrong(missing[0], "Field required")
    architecture = _architecture(fields["architecture"])
    classes, seen = _classes(fields["classes"]), _input(fields["input"]).preprocessing()
    try:
        planned = architectures.plan(
            architecture, channels=seen.channels, size=seen.input_size, classes=len(classes)
        )
    except Problem as problem:
        raise _of_form(problem) from None
    return Manifest(
        id=ids.new("ckpt"),
        job_id=None,
        architecture=planned.architecture,
        classes=classes,
        preprocessing=seen,
        recipe={},
        dataset={"name": None, "version": None},
        epoch=0,
        metrics={},
        made_with={
            "danlu": version("danlu"),
            "imported_from": (filename or "unnamed")[-200:],
            "sha256": sha256,
        },
        created_at=datetime.now(UTC),
    )


def receive(held: Resources, file: Path, manifest: Manifest) -> CheckpointItem:
    """Brings the weights of a file in: files first, then the row.

    Raises `Problem` model_file_invalid, weights_misfit.
    """
    from models_store import checkpoints  # torch

    root = held.settings.checkpoints
    arrived = quarantine.receive(file, manifest, root)
    try:
        with held.writing.begin() as session:
            row = rows.add_foreign(session, manifest.id, disk_bytes=arrived.disk_bytes)
            return views.checkpoint_items(session, [row])[0]
    except BaseException:
        checkpoints.remove(root / manifest.id)
        raise


def _architecture(text: str) -> str | dict[str, Any]:
    if not text.lstrip().startswith(("{", "[")):
        return text.strip()
    return _checked("architecture", text, _LAYERS).canonical()


def _classes(text: str) -> list[str]:
    classes = _checked("classes", text, _CLASSES)
    name, count = Counter(classes).most_common(1)[0]
    if count > 1:
        raise _wrong("classes", f"{name[:80]!r} is in it {count} times")
    return classes


def _input(text: str) -> Input:
    if found := _SHAPE.fullmatch(text.strip()):
        channels, *size = map(int, found.groups())
        value: Any = {"channels": channels, "image_size": size}
        text = json.dumps(value)
    elif found := _CHANNELS_LAST.fullmatch(text.strip()):
        wanted = "{2}x{0}x{1}".format(*found.groups())
        raise _wrong("input", f"The channels come first: write {wanted}", f"-F input={wanted}")
    return _checked("input", text, _INPUT)


Checked = TypeVar("Checked")


def _checked(field: str, text: str, kind: TypeAdapter[Checked]) -> Checked:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise _wrong(field, "It is not JSON") from None
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        found = [{**one, "loc": ("body", field, *one["loc"])} for one in error.errors()]
        raise validation.problem(_operation(field, kind), found) from None


def _operation(field: str, kind: TypeAdapter[Any]) -> Operation:
    """The document says of the field that it is text; places in it need what the text may be."""
    schema = kind.json_schema()
    schemas = schema.pop("$defs", {})
    form = {"schema": {"properties": {field: schema}}}
    return Operation({"requestBody": {"content": {"multipart/form-data": form}}}, schemas)


def _wrong(field: str, why: str, hint: str | None = None) -> Problem:
    return Problem(
        "invalid_request",
        f"{field}: {why}.",
        hint=hint or _HINTS[field],
        errors=[{"loc": ["body", field], "msg": why}],
    )


def _of_form(problem: Problem) -> Problem:
    """What speaks of an image size speaks of the form's input."""
    errors: list[FieldError] = [
        {"loc": ["body", "input", *one["loc"][2:]], "msg": one["msg"]}
        if one["loc"][1] == "image_size"
        else one
        for one in problem.errors
    ]
    hint = problem.hint.replace("an image_size", "an input")
    return Problem(problem.code, problem.detail, hint=hint, errors=errors)
