"""One file, looked at."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from data_store import inspection
from data_store.inspection import Seen, Unreadable

Png = Callable[..., bytes]


def look(path: Path, data: bytes) -> Seen | Unreadable:
    path.write_bytes(data)
    seen = inspection.look(path)
    assert (seen.sha256, seen.bytes) == (sha256(data).digest(), len(data))
    return seen


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_an_image_is_described(tmp_path: Path, png: Png, mode: str) -> None:
    value = 9 if mode == "L" else (9, 9, 9, 255)[: len(mode)]
    from PIL import Image

    file = tmp_path / "1.jpg"
    Image.new(mode, (9, 5), value).save(file, "PNG")

    seen = look(file, file.read_bytes())

    assert isinstance(seen, Seen)
    assert (seen.width, seen.height, seen.format, seen.mode) == (9, 5, "PNG", mode)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"),
        (b"a text", "not_an_image"),
        (b"%PDF-1.4", "unsupported_format"),
        (b"half", "truncated_image"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, png: Png, data: bytes, code: str) -> None:
    data = png(1, (99, 99))[:90] if data == b"half" else data

    seen = look(tmp_path / "1.jpg", data)

    assert isinstance(seen, Unreadable)
    assert seen.code == code
    assert seen.message


def test_a_file_that_is_gone_is_unreadable(tmp_path: Path) -> None:
    seen = inspection.look(tmp_path / "1.jpg")

    assert isinstance(seen, Unreadable)
    assert (seen.code, seen.bytes) == ("not_an_image", 0)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "1.tif").open("wb") as file:
        file.truncate(3_000_000_000)

    seen = inspection.look(tmp_path / "1.tif")

    assert isinstance(seen, Unreadable)
    assert (seen.code, seen.bytes) == ("image_too_large", 0)
