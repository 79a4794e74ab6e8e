"""Forms read as they come, however they are cut into pieces; what is refused is in
routes/test_imports, over HTTP.
"""

import anyio
import pytest
from starlette.requests import Request

from app import forms
from problems import Problem

BODY = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a \xe7\x8c\xab.zip"\r\n'
    b"Content-Type: application/zip\r\n\r\nbytes\r\n--b-\r\nmore\r\n"
    b'--b\r\ncontent-disposition: form-data; name="name"\r\n\r\npets\r\n--b--\r\n'
)


def read(body: bytes, step: int, kind: str = "multipart/form-data; boundary=b"):
    pieces = [body[start : start + step] for start in range(0, len(body), step)]
    got = bytearray()

    async def receive():
        piece = pieces.pop(0) if pieces else b""
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def take(data: bytes) -> None:
        got.extend(data)

    headers = [(b"content-type", kind.encode())]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    form = anyio.run(lambda: forms.read(request, take, fields={"name": str.upper}, example="x.zip"))
    return form, bytes(got)


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_pieces_of_any_size(step):
    form, got = read(BODY, step)
    assert got == b"bytes\r\n--b-\r\nmore"
    assert (form.filename, form.fields) == ("a 猫.zip", {"name": "PETS"})


@pytest.mark.parametrize("cut", range(1, len(BODY) - 4, 13))
def test_a_form_that_ends_anywhere(cut):
    with pytest.raises(Problem) as caught:
        read(BODY[:cut], 10)
    assert caught.value.code == "invalid_multipart"


def test_a_part_without_a_name():
    with pytest.raises(Problem, match="no name"):
        read(BODY.replace(b'; name="name"', b""), 50)
