"""The three kinds of body that carry images: multipart files, an image itself, base64 in JSON.

Knows nothing of what is done with the images; whether bytes are an image is not asked here.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from app.validation import unknown_parameter
from problems import Problem, did_you_mean

_FIELDS_AT_MOST = 100
_FIELD_BYTES = 10_000
_JSON_OVERHEAD = 10_000


@dataclass(frozen=True, slots=True)
class Image:
    """One image as it was sent, or why it was not taken."""

    filename: str | None
    data: bytes | Problem


@dataclass(frozen=True, slots=True)
class Upload:
    """The images of a request, in order, and the form fields beside them."""

    images: list[Image]
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """What is taken: bytes of an image, images of a request, names of form fields."""

    image_bytes: int
    images: int
    fields: Sequence[str]


async def read(request: Request, limits: Limits) -> Upload:
    """The body of a request, whatever kind it is of; too large an image is a problem of its own.

    Raises `Problem`: no_file, empty_file, too_many_files, invalid_json, invalid_multipart,
    invalid_request, unknown_field, unknown_parameter, unsupported_media_type.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _multipart(request, limits)
    if kind.startswith("multipart/"):
        raise Problem(
            "unsupported_media_type",
            f"A body of the kind {kind[:80]} is not taken.",
            hint="Send multipart/form-data, an image as it is, or JSON with image_base64.",
        )
    if kind == "application/json":
        body = await _capped(request, limits, most=limits.image_bytes * 4 // 3 + _JSON_OVERHEAD)
        data = body if isinstance(body, Problem) else _from_json(body, limits)
    else:
        data = await _capped(request, limits, most=limits.image_bytes)
        if not data and not kind:
            raise Problem("no_file", "The request has no body.")
    return Upload([Image(None, _unless_too_large(data, limits))])


async def _capped(request: Request, limits: Limits, *, most: int) -> bytes | Problem:
    """The whole body, or a problem as soon as it is larger than `most`."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            return _too_large(limits)
    return bytes(body)


def _unless_too_large(data: bytes | Problem, limits: Limits) -> bytes | Problem:
    if isinstance(data, bytes) and len(data) > limits.image_bytes:
        return _too_large(limits)
    return data


def _too_large(limits: Limits) -> Problem:
    return Problem("image_too_large", f"The image is larger than {limits.image_bytes:,} bytes.")


def _from_json(body: bytes, limits: Limits) -> bytes:
    """The image in `{"image_base64": "…"}`, with or without `data:image/png;base64,` before it."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise Problem(
            "invalid_json",
            "The body is not JSON, though its Content-Type says so.",
            hint='Send {"image_base64": "…"}, or the image itself with curl --data-binary.',
        ) from None
    if not isinstance(document, dict):
        raise _invalid("The body is no JSON object.", ["body"])
    if unknown := [str(name) for name in document if name != "image_base64"]:
        raise _unknown_member(unknown[0][:80], limits.fields)
    text = document.get("image_base64")
    if text is None:
        raise Problem("no_file", "The JSON has no image_base64.", hint='{"image_base64": "…"}')
    if not isinstance(text, str):
        raise _invalid("image_base64 is no string.", ["body", "image_base64"])
    return _decoded(text)


def _decoded(text: str) -> bytes:
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        compact = "".join(encoded.split())
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except ValueError:
        raise _invalid(
            "image_base64 is not base64.",
            ["body", "image_base64"],
            hint="Send the bytes of the image: an address or a path is never fetched.",
        ) from None


def _unknown_member(name: str, parameters: Sequence[str]) -> Problem:
    hint = (
        f"Put it into the query: POST /predict?{name}=…"
        if name in parameters
        else did_you_mean(name, ["image_base64"])
    )
    return Problem(
        "unknown_field",
        f"danlu knows no field {name!r} here.",
        hint=hint,
        errors=[{"loc": ["body", name], "msg": "unknown field"}],
    )


async def _multipart(request: Request, limits: Limits) -> Upload:
    form = await _form(request, limits)
    try:
        parts = _file_parts(form, limits)
        images = [await _image(part, limits) for part in parts]
        values = {name: form[name] for name in limits.fields if name in form}
    finally:
        await form.close()
    # An empty field of a form is one that nobody filled in.
    return Upload(images, {name: str(value) for name, value in values.items() if value != ""})


async def _form(request: Request, limits: Limits) -> FormData:
    try:
        async with aclosing(request.stream()) as stream:
            return await _WholeForm(
                request.headers, stream,
                max_files=limits.images, max_fields=_FIELDS_AT_MOST, max_part_size=_FIELD_BYTES,
            ).parse()  # fmt: skip
    except MultiPartException as error:
        raise _unreadable_form(error.message, limits) from error


class _WholeForm(MultiPartParser):
    """Starlette's reader of forms, which takes one that ends in the middle for a shorter one."""

    _ended = False

    def on_end(self) -> None:
        """Called at the boundary that closes a form."""
        self._ended = True

    async def parse(self) -> FormData:
        """The parts. Raises `MultiPartException`."""
        form = await super().parse()
        if self._ended:
            return form
        for file in self._files_to_close_on_error:
            file.close()
        raise MultiPartException("it ends before its last boundary")


async def _image(part: UploadFile, limits: Limits) -> Image:
    if part.size is not None and part.size > limits.image_bytes:
        return Image(part.filename, _too_large(limits))
    return Image(part.filename, await part.read())


def _file_parts(form: FormData, limits: Limits) -> list[UploadFile]:
    """The parts named file. Raises `Problem` for parts of other names, and when there are none."""
    strangers = [name for name in dict.fromkeys(form) if name not in ("file", *limits.fields)]
    parts = [part for part in form.getlist("file") if isinstance(part, UploadFile)]
    if parts and not strangers and len(parts) == len(form.getlist("file")):
        return parts
    if "file" in form and len(parts) < len(form.getlist("file")):
        raise Problem(
            "no_file",
            "The part named file is text, not a file.",
            hint="With curl the file's name follows an @: curl -F file=@image.jpg URL",
        )
    misnamed = next((name for name in strangers if isinstance(form[name], UploadFile)), None)
    if not parts and misnamed is not None:
        raise Problem(
            "no_file",
            "No part is named file.",
            hint=f"The part with the image is named {misnamed[:80]!r}: name it file.",
        )
    if strangers:
        raise unknown_parameter(strangers, ["file", *limits.fields], where="body")
    raise Problem("no_file", "No part is named file.")


def _unreadable_form(detail: str, limits: Limits) -> Problem:
    if detail.startswith("Too many files"):
        return Problem(
            "too_many_files",
            f"There are more than {limits.images} files.",
            hint=f"Send at most {limits.images} in one request.",
        )
    return Problem(
        "invalid_multipart",
        f"The multipart body cannot be read: {detail[:200]}",
        hint="Leave the Content-Type to your HTTP client, which adds the boundary: "
        "curl -F file=@image.jpg URL",
    )


def _invalid(message: str, loc: list[str | int], *, hint: str | None = None) -> Problem:
    return Problem("invalid_request", message, hint=hint, errors=[{"loc": loc, "msg": message}])
