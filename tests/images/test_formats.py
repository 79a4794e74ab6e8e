import io

import pytest
from PIL import Image

from images import decode
from problems import Problem


def code_of(data: bytes) -> str:
    with pytest.raises(Problem) as caught:
        decode(data, size=None, channels=3)
    assert caught.value.detail
    return caught.value.code


ISO = b"\x00\x00\x00\x18ftyp"


@pytest.mark.parametrize(
    "data",
    [
        b"%PDF-1.7\n",
        b"8BPS\x00\x01",
        b"\x00\x00\x01\x00\x01\x00",
        b"\x00\x00\x00\x0cjP  \r\n\x87\n",
        b"\xff\x4f\xff\x51\x00",
        b"\x00\x00\x00\x0cJXL \r\n",
        b"\xff\x0a\x00",
        b"II\xbc\x01\x08\x00",
        b"qoif\x00\x00\x00\x01",
        b"P7\nWIDTH 1\n",
        b"Pf\n1 1\n-1.0\n\0\0\0\0",
        b"\x00" * 128 + b"DICM",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\xef\xbb\xbf\n<?xml version='1.0'?>\n<!-- x --><SVG/>",
        b"<!DOCTYPE svg PUBLIC ''><svg/>",
    ],
)
def test_images_that_are_not_read_are_named(data: bytes) -> None:
    assert code_of(data) == "unsupported_format"


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"\0" * 10_000,
        b"hello",
        b"BMW makes cars, and this is a text about them",
        b"P5 is the name of a level",
        b"P6" + b" " * 5000,
        b"P6" + b"#" * 5000,
        b"RIFF\x00\x00\x00\x00WAVEfmt ",
        b"\xff\xd8",
        b"<!DOCTYPE html><html><body><svg",
        b"<html>login</html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
        b"PK\x03\x04archive",
        ISO + b"isom\x00\x00\x02\x00isommp41",
        b"GIF88a" + b"\0" * 20,
    ],
)
def test_other_bytes_are_no_image(data: bytes) -> None:
    assert code_of(data) == "not_an_image"


def test_what_it_is_instead_is_said() -> None:
    with pytest.raises(Problem, match="Git LFS") as caught:
        decode(b"version https://git-lfs.github.com/spec/v1\n", size=None, channels=3)
    assert caught.value.code == "not_an_image"


def test_no_bytes() -> None:
    assert code_of(b"") == "empty_file"


def test_names_do_not_matter_and_what_follows_neither() -> None:
    """A polyglot, a PNG with an archive behind it, is what its first bytes say."""
    out = io.BytesIO()
    Image.new("RGB", (3, 2), (1, 2, 3)).save(out, "PNG")
    decoded = decode(out.getvalue() + b"PK\x03\x04" + b"x" * 999, size=None, channels=3)
    assert decoded.pixels[0, 0].tolist() == [1, 2, 3]


def test_container_brand_of_avif_is_found_among_the_compatible_ones() -> None:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 0, 0)).save(out, "AVIF")
    data = bytearray(out.getvalue())
    assert data[8:12] == b"avif"
    data[8:12] = b"mif1"
    assert decode(bytes(data), size=None, channels=3).pixels.shape == (8, 8, 3)
