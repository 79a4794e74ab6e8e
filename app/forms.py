"""Multipart forms with one file of any size, whose bytes are handed on as they come.

Nothing of the file is held in memory or written anywhere here. Forms with small files, which are
gathered, are `uploads`'.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from app.validation import unknown_parameter
from problems import Problem

_FIELD_BYTES = 10_000
_HINT = "Leave the Content-Type to your HTTP client, which adds the boundary: curl -F file=@{} URL"


@dataclass(frozen=True, slots=True)
class Form:
    """The name that the file was sent with, and the fields beside it."""

    filename: str | None
    fields: dict[str, str]


@dataclass
class _Part:
    """One part: its headers as they come, then where its bytes belong."""

    header: bytes = b""
    value: bytes = b""
    disposition: bytes = b""
    name: str = ""
    is_file: bool = False
    data: bytearray = field(default_factory=bytearray)


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
    boundary = _boundary(request, example)
    reader = _Reader(boundary, fields, what=what, example=example, field_bytes=field_bytes)
    async for piece in request.stream():
        for data in reader.feed(piece):
            await take(data)
    return reader.end()


class _Reader:
    """The parser's callbacks, which gather what a piece of the body holds."""

    def __init__(
        self,
        boundary: bytes,
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
        self._part = _Part()
        self._found: dict[str, str] = {}
        self._filename: str | None = None
        self._has_file = self._ended = False
        self._for_file: list[bytes] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def feed(self, piece: bytes) -> list[bytes]:
        """What of the file is in this piece of the body."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise self._unreadable(str(error)) from error
        found, self._for_file = self._for_file, []
        return found

    def end(self) -> Form:
        """The form, once all of the body was fed."""
        if not self._ended:
            raise self._unreadable("it is cut off before its end")
        if not self._has_file:
            raise Problem(
                "no_file",
                f"The form has no part named file, which is to hold the {self._what}.",
                hint=f"curl -F file=@{self._example} URL",
            )
        return Form(self._filename, {name: text for name, text in self._found.items() if text})

    def _begin(self) -> None:
        self._part = _Part()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._part.header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.value += data[start:end]

    def _header_end(self) -> None:
        if self._part.header.lower() == b"content-disposition":
            self._part.disposition = self._part.value
        self._part.header = self._part.value = b""

    def _headers_finished(self) -> None:
        part = self._part
        _, options = parse_options_header(part.disposition)
        if b"name" not in options:
            raise self._unreadable("a part of it has no name")
        part.name = options[b"name"].decode(errors="replace")
        part.is_file = part.name == "file"
        if part.name not in ("file", *self._fields):
            raise unknown_parameter([part.name], ["file", *self._fields], where="body")
        if part.name in self._found or (part.is_file and self._has_file):
            raise self._unreadable(f"{part.name} is in it twice")
        if part.is_file:
            self._take_file(options.get(b"filename"))

    def _take_file(self, filename: bytes | None) -> None:
        if filename is None:
            raise Problem(
                "no_file",
                "The part named file is text, not a file.",
                hint=f"With curl the file's name follows an @: curl -F file=@{self._example} URL",
            )
        self._has_file = True
        self._filename = filename.decode(errors="replace") or None

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_file:
            self._for_file.append(data[start:end])
            return
        self._part.data += data[start:end]
        if len(self._part.data) > self._field_bytes:
            raise self._unreadable(f"{self._part.name} is longer than {self._field_bytes:,} bytes")

    def _part_end(self) -> None:
        name = self._part.name
        if not self._part.is_file:
            text = self._part.data.decode(errors="replace")
            self._found[name] = self._fields[name](text) if text else ""

    def _end(self) -> None:
        self._ended = True

    def _unreadable(self, reason: str) -> Problem:
        return Problem(
            "invalid_multipart",
            f"The multipart body cannot be read: {reason[:200]}.",
            hint=_HINT.format(self._example),
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
