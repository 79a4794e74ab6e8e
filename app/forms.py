"""Multipart forms with one file of any size, whose bytes are handed on as they come.

Nothing of the file is held in memory or written anywhere here. Forms with small files, which are
gathered, are `uploads`'.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from app.parts import Parts, Unreadable
from app.validation import unknown_parameter
from problems import Problem

_FIELD_BYTES = 10_000
_HINT = "Leave the Content-Type to your HTTP client, which adds the boundary: curl -F file=@{} URL"


@dataclass(frozen=True, slots=True)
class Form:
    """The name that the file was sent with, and the fields beside it."""

    filename: str | None
    fields: dict[str, str]


async def read(
    request: Request,
    take: Callable[[bytes], Awaitable[None]],
    *,
    fields: Mapping[str, Callable[[str], str]],
    example: str,
    what: str = "archive",
    field_bytes: int = _FIELD_BYTES,
) -> Form:
    """Reads the form; `take` gets the bytes of the part named file. Empty fields are left out,
    others become what `fields` make of them, as soon as they are there; none may be longer than
    `field_bytes`.

    `what` the file is, and `example`, a name of such a file, are for messages. Raises `Problem`
    invalid_multipart, no_file, unknown_parameter, unsupported_media_type, and what `take` raises.
    """
    taker = _Taker(fields, what=what, example=example, field_bytes=field_bytes)
    try:
        parts = Parts(_boundary(request, example), taker)
        async for piece in request.stream():
            parts.feed(piece)
            for data in taker.taken():
                await take(data)
        parts.finish()
    except Unreadable as error:
        raise _unreadable(str(error), example) from error
    return taker.form()


class _Taker:
    """What of a form belongs to the file, and what its fields say."""

    def __init__(
        self,
        fields: Mapping[str, Callable[[str], str]],
        *,
        what: str,
        example: str,
        field_bytes: int,
    ) -> None:
        self._fields = fields
        self._field_bytes = field_bytes
        self._what = what
        self._example = example
        self._found: dict[str, str] = {}
        self._filename: str | None = None
        self._has_file = False
        self._for_file: list[bytes] = []
        self._name = ""
        self._data = bytearray()

    def taken(self) -> list[bytes]:
        """What came of the file since this was asked last."""
        found, self._for_file = self._for_file, []
        return found

    def form(self) -> Form:
        """The form, once all of the body was fed."""
        if not self._has_file:
            raise Problem(
                "no_file",
                f"The form has no part named file, which is to hold the {self._what}.",
                hint=f"curl -F file=@{self._example} URL",
            )
        return Form(self._filename, {name: text for name, text in self._found.items() if text})

    def begin(self, name: str, filename: str | None) -> None:
        """A part begins."""
        if name not in ("file", *self._fields):
            raise unknown_parameter([name], ["file", *self._fields], where="body")
        if name in self._found or (name == "file" and self._has_file):
            raise Unreadable(f"{name} is in it twice")
        if name == "file" and filename is None:
            raise Problem(
                "no_file",
                "The part named file is text, not a file.",
                hint=f"With curl the file's name follows an @: curl -F file=@{self._example} URL",
            )
        if name == "file":
            self._has_file = True
            self._filename = filename or None
        self._name = name
        self._data.clear()

    def take(self, data: bytes) -> None:
        """Bytes of the part."""
        if self._name == "file":
            self._for_file.append(data)
            return
        self._data += data
        if len(self._data) > self._field_bytes:
            raise Unreadable(f"{self._name} is longer than {self._field_bytes:,} bytes")

    def end(self) -> None:
        """The part is whole."""
        if self._name != "file":
            text = self._data.decode(errors="replace")
            self._found[self._name] = self._fields[self._name](text) if text else ""


def _unreadable(reason: str, example: str) -> Problem:
    return Problem(
        "invalid_multipart",
        f"The multipart body cannot be read: {reason[:200]}.",
        hint=_HINT.format(example),
    )


def _boundary(request: Request, example: str) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise Problem(
            "unsupported_media_type",
            "The body is no multipart form." if kind else "The body is not said to be a form.",
            hint=f"Send multipart/form-data: curl -F file=@{example} URL",
        )
    boundary: bytes = options.get(b"boundary", b"")
    if not boundary:
        raise Problem(
            "invalid_multipart",
            "The Content-Type of the multipart body names no boundary.",
            hint=_HINT.format(example),
        )
    return boundary
