"""The parts of a multipart body, told as its bytes come. Knows nothing of what they are for."""

import inspect
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

Header = TypeVar("Header", bytes, str)
Value = TypeVar("Value")
_SHORT = 300  # bytes of a header that is remembered
_SMALL = 65_536  # bytes of a form that is looked at as a whole
_BOUNDARY = 70  # bytes of the longest boundary that RFC 2046 allows
_EXTENDED = re.compile(rb";[ \t]*filename\*[ \t]*=", re.IGNORECASE)


class Unreadable(Exception):
    """The body is no multipart form, or not a whole one; the text says why."""


class Taker(Protocol):
    """Who is told of the parts."""

    def begin(self, name: str, filename: str | None) -> None:
        """A part begins; without a `filename` it is a field."""

    def take(self, data: bytes) -> None:
        """Some bytes of the part that began last."""

    def end(self) -> None:
        """That part is whole."""


class Parts:
    """Reads a form piece by piece. All methods raise `Unreadable`, and what the taker raises.

    A form of one part that comes in one piece, as most images do, is taken as it is: the parser
    needs longer for it than a small network. No circle of objects: images would stay in memory
    until the garbage collector comes by.
    """

    def __init__(self, boundary: bytes, taker: Taker) -> None:
        self._boundary = boundary
        self._form = _Form(taker)
        self._parser: MultipartParser | None = None

    def feed(self, piece: bytes) -> None:
        """The next bytes of the body."""
        if self._parser is None:
            if self._form.ended or self._takes_whole(piece):
                return
            self._parser = _parser(self._boundary, self._form)
        _write(self._parser, piece)

    def finish(self) -> None:
        """To be called when there are no more."""
        if not self._form.ended:
            raise Unreadable("it is cut off before its end")

    def _takes_whole(self, piece: bytes) -> bool:
        """Whether the piece was a whole form of one part, which the taker has now."""
        is_usual = 0 < len(self._boundary) <= _BOUNDARY and len(piece) <= _SMALL
        delimiter = b"--" + self._boundary
        if not is_usual or not piece.startswith(delimiter + b"\r\n"):
            return False
        head, _, rest = piece[len(delimiter) + 2 :].partition(b"\r\n\r\n")
        data, _, end = rest.partition(b"\r\n" + delimiter)
        part = _only_part(head) if end in (b"--\r\n", b"--") and len(head) <= _SHORT else None
        if part is None:
            return False
        taker = self._form.taker
        taker.begin(*part)
        if data:
            taker.take(data)
        taker.end()
        self._form.ended = True
        return True


class _Form:
    """What the parser calls."""

    def __init__(self, taker: Taker) -> None:
        self.ended = False
        self.taker = taker
        self._header = self._value = self._disposition = b""

    def begin(self) -> None:
        self._disposition = b""

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def headers_finished(self) -> None:
        self.taker.begin(*_remembered(_names, self._disposition))

    def data(self, data: bytes, start: int, end: int) -> None:
        self.taker.take(data[start:end])

    def end(self) -> None:
        self.ended = True


class _Heads:
    """A taker of forms without data."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str | None]] = []
        self.has_data = False

    def begin(self, name: str, filename: str | None) -> None:
        self.found.append((name, filename))

    def take(self, _data: bytes) -> None:
        self.has_data = True

    def end(self) -> None:
        pass


def _parser(boundary: bytes, form: _Form) -> MultipartParser:
    callbacks: Any = {
        "on_part_begin": form.begin,
        "on_header_field": form.header_field,
        "on_header_value": form.header_value,
        "on_header_end": form.header_end,
        "on_headers_finished": form.headers_finished,
        "on_part_data": form.data,
        "on_part_end": form.taker.end,
        "on_end": form.end,
    }
    try:
        return MultipartParser(boundary, callbacks)
    except FormParserError as error:
        raise Unreadable(str(error)) from error


def _write(parser: MultipartParser, piece: bytes) -> None:
    try:
        parser.write(piece)
    except FormParserError as error:
        raise Unreadable(str(error)) from error


@lru_cache(maxsize=1000)
def _only_part(head: bytes) -> tuple[str, str | None] | None:
    """The names of a part that has this head, as the parser reads them; None where it reads
    anything else out of it, or nothing.
    """
    heads = _Heads()
    form = _Form(heads)
    try:
        _write(_parser(b"b", form), b"--b\r\n" + head + b"\r\n\r\n\r\n--b--")
    except Unreadable:
        return None
    is_one = form.ended and len(heads.found) == 1 and not heads.has_data
    return heads.found[0] if is_one else None


def boundary_of(content_type: str | None) -> bytes:
    """The boundary that a Content-Type names; empty where it names none, or is of no form."""
    return _remembered(_boundary, content_type or "")


def _remembered(read: Callable[[Header], Value], header: Header) -> Value:
    """Clients send the same headers again and again; long ones are read each time."""
    return read(header) if len(header) <= _SHORT else inspect.unwrap(read)(header)


@lru_cache(maxsize=1000)
def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    found: bytes = options.get(b"boundary", b"")
    return found if kind == b"multipart/form-data" else b""


@lru_cache(maxsize=1000)
def _names(disposition: bytes) -> tuple[str, str | None]:
    """Of a part and of its file. Raises `Unreadable`."""
    _, options = parse_options_header(disposition)
    if b"name" not in options:
        raise Unreadable("a part of it has no name")
    filename = _extended_filename(disposition)
    if filename is None and b"filename" in options:
        filename = options[b"filename"].decode(errors="replace")
    return options[b"name"].decode(errors="replace"), filename


def _extended_filename(disposition: bytes) -> str | None:
    """`filename*`, such as `utf-8''%E7%8C%AB.png`. RFC 7578 forbids it in forms, so the parser
    leaves it out; clients send it nevertheless, alone or with a `filename` of no use.
    """
    renamed, found = _EXTENDED.subn(b"; filename-extended=", disposition)
    if not found:
        return None
    _, options = parse_options_header(renamed)
    charset, _, rest = options.get(b"filename-extended", b"").partition(b"'")
    _, is_of_this_form, encoded = rest.partition(b"'")
    if not is_of_this_form:
        return None
    encoding = "latin-1" if charset.lower() == b"iso-8859-1" else "utf-8"
    return unquote_to_bytes(encoded).decode(encoding, errors="replace")
