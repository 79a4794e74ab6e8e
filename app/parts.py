"""The parts of a multipart body, told as its bytes come. Knows nothing of what they are for."""

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

Header = TypeVar("Header", bytes, str)
Value = TypeVar("Value")
_SHORT = 300  # bytes of a header that is remembered


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
    """Reads a form piece by piece. All methods raise `Unreadable`, and what the taker raises."""

    def __init__(self, boundary: bytes, taker: Taker) -> None:
        self._taker = taker
        self._header = self._value = self._disposition = b""
        self._ended = False
        callbacks: Any = {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": taker.end,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise Unreadable(str(error)) from error

    def feed(self, piece: bytes) -> None:
        """The next bytes of the body."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise Unreadable(str(error)) from error

    def finish(self) -> None:
        """To be called when there are no more."""
        if not self._ended:
            raise Unreadable("it is cut off before its end")

    def _begin(self) -> None:
        self._disposition = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        self._taker.begin(*_remembered(_names, self._disposition))

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._taker.take(data[start:end])

    def _end(self) -> None:
        self._ended = True


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
    filename = options.get(b"filename")
    return (
        options[b"name"].decode(errors="replace"),
        None if filename is None else filename.decode(errors="replace"),
    )
