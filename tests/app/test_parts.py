"""Parts of a form, however it is cut into pieces, and what is no form."""

import contextlib
import gc
import weakref

import pytest

from app.parts import Parts, Unreadable, boundary_of

BODY = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a \xe7\x8c\xab.png"\r\n'
    b"Content-Type: image/png\r\n\r\nbytes\r\n--b-\r\nmore\r\n"
    b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\npets\r\n--b--\r\n'
)


class Taker:
    def __init__(self) -> None:
        self.parts: list[tuple[str, str | None, bytes]] = []
        self.whole = 0

    def begin(self, name: str, filename: str | None) -> None:
        self.parts.append((name, filename, b""))

    def take(self, data: bytes) -> None:
        name, filename, before = self.parts[-1]
        self.parts[-1] = (name, filename, before + data)

    def end(self) -> None:
        self.whole += 1


def read(body: bytes, step: int = 1000) -> Taker:
    taker = Taker()
    parts = Parts(b"b", taker)
    for start in range(0, len(body), step):
        parts.feed(body[start : start + step])
    parts.finish()
    return taker


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_pieces_of_any_size(step):
    taker = read(BODY, step)
    assert taker.parts == [("file", "a 猫.png", b"bytes\r\n--b-\r\nmore"), ("model", None, b"pets")]
    assert taker.whole == 2


@pytest.mark.parametrize("cut", range(1, len(BODY) - 4, 13))
def test_a_form_that_ends_anywhere(cut):
    with pytest.raises(Unreadable):
        read(BODY[:cut], 10)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (BODY.replace(b'; name="model"', b""), "no name"),
        (b"--b\r\n\r\nx\r\n--b--\r\n", "no name"),
        (b"nonsense", "boundary"),
        (b"--b\r\nno header\r\n\r\nx", "header"),
    ],
)
def test_what_is_no_form(body, said):
    with pytest.raises(Unreadable, match=f"(?i){said}"):
        read(body)


ALONE = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n'
    b"Content-Type: image/png\r\n\r\n%s\r\n--b--\r\n"
)


@pytest.mark.parametrize(
    "data", [b"", b"x", b"\r\n", b"\r\n--", b"\r\n--a", b"--b--\r\n", bytes(9000)]
)
@pytest.mark.parametrize("end", [b"", b"\r\n", b"and more"])
def test_a_form_of_one_part_is_the_same_in_one_piece(data, end):
    body = (ALONE % data).removesuffix(b"\r\n") + end
    whole, cut = read(body, len(body)), read(body, 50)
    assert whole.parts == cut.parts == [("file", "a.png", data)]
    assert whole.whole == cut.whole == 1


@pytest.mark.parametrize(
    ("place", "instead"),
    [
        (b"form-data; name", b"form-data; nome"),
        (b"Content-Disposition", b"Content Disposition"),
        (b"\r\nContent-Type: image/png", b"\r\n\r\nContent-Type: image/png"),
        (b"Content-Type: image/png", b"nothing"),
        (b"Content-Type: image/png", b"\r\n"),
        (b"--b--", b"--b-"),
        (b"--b--", b"--c--"),
        (b"\r\n--b--", b"--b--"),
        (b"--b\r\n", b"--b \r\n"),
        (b"--b\r\n", b"--b\r\n\r\n"),
    ],
)
def test_an_odd_form_of_one_part_is_the_same_in_one_piece(place, instead):
    body = (ALONE % b"x").replace(place, instead, 1)
    assert outcome(body, len(body)) == outcome(body, 50)


def outcome(body: bytes, step: int) -> object:
    try:
        return read(body, step).parts
    except Unreadable:
        return "unreadable"


@pytest.mark.parametrize(
    ("parameters", "filename"),
    [
        (b"filename*=utf-8''%E7%8C%AB.png", "猫.png"),
        (b"FileName* = \"UTF-8'en'%e7%8c%ab.png\"", "猫.png"),
        (b"filename*=iso-8859-1''caf%E9.png", "café.png"),
        (b"filename=\"=?utf-8?B?55m8LnBuZw==?=\"; filename*=utf-8''%E7%8C%AB.png", "猫.png"),
        (b"filename*=utf-8''%ff; filename=\"a.png\"", "\ufffd"),
        (b"filename*=zip''%78.png", "x.png"),
        (b'filename*=nothing; filename="a.png"', "a.png"),
        (b"filename*=nothing", None),
        (b"filename=\"a; filename*=utf-8''b\"", "a; filename*=utf-8''b"),
    ],
)
def test_a_filename_in_the_way_of_headers(parameters, filename):
    """RFC 7578 forbids `filename*` in forms, and clients send it."""
    body = (ALONE % b"x").replace(b'filename="a.png"', parameters)
    assert read(body, len(body)).parts == read(body, 50).parts == [("file", filename, b"x")]


def test_what_follows_a_form_is_nobodys():
    taker = Taker()
    parts = Parts(b"b", taker)
    for piece in (ALONE % b"x", ALONE % b"y"):
        parts.feed(piece)
    parts.finish()
    assert taker.parts == [("file", "a.png", b"x")]


@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        (None, b""),
        ("", b""),
        ("text/plain; boundary=b", b""),
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=b", b"b"),
        ('Multipart/Form-Data; charset=utf-8; boundary="b c"', b"b c"),
    ],
)
def test_boundaries(kind, boundary):
    assert boundary_of(kind) == boundary


def test_a_boundary_that_is_too_long():
    with pytest.raises(Unreadable):
        Parts(b"x" * 2000, Taker()).feed(b"--")


@pytest.mark.parametrize("body", [BODY, BODY[:-20], b"nonsense"], ids=["whole", "half", "none"])
def test_what_was_taken_goes_at_once(body):
    """A garbage collector that comes by seldom would leave gigabytes of images behind."""
    gc.disable()
    try:
        taker = Taker()
        seen = weakref.ref(taker)
        parts = Parts(b"b", taker)
        with contextlib.suppress(Unreadable):
            parts.feed(body)
        del taker, parts
        assert seen() is None
    finally:
        gc.enable()
