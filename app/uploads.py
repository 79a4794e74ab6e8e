"""The three kinds of body that carry images: multipart files, an image itself, base64 in JSON.

Knows nothing of what is done with the images; whether bytes are an image is not asked here.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from starlette.requests import Request

from app.bodies import Bodies, Body
from app.parts import Parts, Unreadable, boundary_of
from app.validation import unknown_parameter
from problems import Problem, did_you_mean

_FIELDS_AT_MOST = 100
_FIELD_BYTES = 10_000
_JSON_OVERHEAD = 10_000
# Of a document with one member; millions would keep the server from all else while they are read.
_MARKS_AT_MOST = 1000


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


async def read(request: Request, limits: Limits, bodies: Bodies) -> Upload:
    """The body of a request, whatever kind it is of; too large an image is a problem of its own.

    Raises `Problem`: overloaded, no_file, empty_file, too_many_files, invalid_json,
    invalid_multipart, invalid_request, unknown_field, unknown_parameter, unsupported_media_type.
    """
    with bodies.one() as body:
        return await _read(request, limits, body)


async def _read(request: Request, limits: Limits, body: Body) -> Upload:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _multipart(request, limits, body)
    if kind.startswith("multipart/"):
        raise Problem(
            "unsupported_media_type",
            f"A body of the kind {kind[:80]} is not taken.",
            hint="Send multipart/form-data, an image as it is, or JSON with image_base64.",
        )
    if kind == "application/json":
        most = limits.image_bytes * 4 // 3 + _JSON_OVERHEAD
        document = await _capped(request, limits, body, most=most)
        data = document if isinstance(document, Problem) else _from_json(document, limits)
    else:
        data = await _capped(request, limits, body, most=limits.image_bytes)
        if not data and not kind:
            raise Problem("no_file", "The request has no body.")
    return Upload([Image(None, _unless_too_large(data, limits))])


async def _capped(request: Request, limits: Limits, body: Body, *, most: int) -> bytes | Problem:
    """All of it, or a problem as soon as it is larger than `most`."""
    whole = bytearray()
    async for piece in request.stream():
        body.more(len(piece))
        whole += piece
        if len(whole) > most:
            return _too_large(limits)
    return bytes(whole)


def _unless_too_large(data: bytes | Problem, limits: Limits) -> bytes | Problem:
    if isinstance(data, bytes) and len(data) > limits.image_bytes:
        return _too_large(limits)
    return data


def _too_large(limits: Limits) -> Problem:
    return Problem("image_too_large", f"The image is larger than {limits.image_bytes:,} bytes.")


def _from_json(body: bytes, limits: Limits) -> bytes:
    """The image in `{"image_base64": "…"}`, with or without `data:image/png;base64,` before it."""
    try:
        if any(body.count(mark) > _MARKS_AT_MOST for mark in (b'"', b"[", b"{")):
            raise ValueError
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise Problem(
            "invalid_json",
            "The body is no JSON with an image in it, though its Content-Type says so.",
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
            hint="Send the bytes of the image, in base64 with + and /, not with - and _: an "
            "address or a path is never fetched.",
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


async def _multipart(request: Request, limits: Limits, body: Body) -> Upload:
    gathered = _Gathered(limits)
    try:
        parts = Parts(boundary_of(request.headers["content-type"]), gathered)
        async with aclosing(request.stream()) as stream:
            async for piece in stream:
                body.more(len(piece))
                parts.feed(piece)
        parts.finish()
    except Unreadable as error:
        raise _unreadable_form(str(error)) from error
    return gathered.upload()


class _Gathered:
    """The parts of a form, in memory; of an image that is too large nothing is kept."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._images: list[Image] = []
        self._fields: dict[str, str] = {}
        self._strangers: list[str] = []
        self._misnamed: str | None = None  # a file under another name
        self._has_text = False  # where the file should be
        self._count = 0
        self._name: str = ""
        self._filename: str | None = None
        self._data: list[bytes] = []
        self._size = self._most = 0

    def begin(self, name: str, filename: str | None) -> None:
        """A part begins. Raises `Problem` too_many_files, and `Unreadable`."""
        self._count += 1
        if filename is not None and self._count > self._limits.images:
            raise _too_many(self._limits)
        if self._count > self._limits.images + _FIELDS_AT_MOST:
            raise Unreadable("it has too many parts")
        self._name, self._filename = name, filename
        self._data, self._size = [], 0
        self._most = _FIELD_BYTES if filename is None else self._limits.image_bytes
        if name not in ("file", *self._limits.fields):
            if name not in self._strangers:
                self._strangers.append(name)
            if filename is not None and self._misnamed is None:
                self._misnamed = name
        elif name == "file" and filename is None:
            self._has_text = True

    def take(self, data: bytes) -> None:
        """Bytes of the part. Raises `Unreadable` for a field of too many."""
        self._size += len(data)
        if self._size <= self._most:
            self._data.append(data)
        elif self._filename is None:
            raise Unreadable(f"{self._name[:80]} is longer than {_FIELD_BYTES:,} bytes")
        else:
            self._data.clear()

    def end(self) -> None:
        """The part is whole."""
        if self._name == "file" and self._filename is not None:
            too_large = self._size > self._most
            data = _too_large(self._limits) if too_large else b"".join(self._data)
            self._images.append(Image(self._filename or None, data))
        elif self._name in self._limits.fields:
            self._fields[self._name] = b"".join(self._data).decode(errors="replace")
        self._data = []

    def upload(self) -> Upload:
        """All of it. Raises `Problem` for parts of other names, and when no part is a file."""
        if self._has_text:
            raise Problem(
                "no_file",
                "The part named file is text, not a file.",
                hint="With curl the file's name follows an @: curl -F file=@image.jpg URL",
            )
        if not self._images and self._misnamed is not None:
            raise Problem(
                "no_file",
                "No part is named file.",
                hint=f"The part with the image is named {self._misnamed[:80]!r}: name it file.",
            )
        if self._strangers:
            raise unknown_parameter(self._strangers, ["file", *self._limits.fields], where="body")
        if not self._images:
            raise Problem("no_file", "No part is named file.")
        # An empty field of a form is one that nobody filled in.
        return Upload(self._images, {name: text for name, text in self._fields.items() if text})


def _too_many(limits: Limits) -> Problem:
    return Problem(
        "too_many_files",
        f"There are more than {limits.images} files.",
        hint=f"Send at most {limits.images} in one request.",
    )


def _unreadable_form(detail: str) -> Problem:
    return Problem(
        "invalid_multipart",
        f"The multipart body cannot be read: {detail[:200]}.",
        hint="Leave the Content-Type to your HTTP client, which adds the boundary: "
        "curl -F file=@image.jpg URL",
    )


def _invalid(message: str, loc: list[str | int], *, hint: str | None = None) -> Problem:
    return Problem("invalid_request", message, hint=hint, errors=[{"loc": loc, "msg": message}])
