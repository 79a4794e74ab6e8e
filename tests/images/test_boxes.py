"""Boxes in boxes, as the specification lays them out."""

import pytest

from images.boxes import Bytes, CutOff, boxes, whole


def found(data: bytes) -> list[tuple[bytes, int]]:
    return [(box.kind, box.content.left) for box in boxes(Bytes(data))]


def test_numbers_names_and_parts_one_after_the_other() -> None:
    data = Bytes(b"\x01\x02\x03name\x00\x05rest")
    assert (data.number(1), data.number(2), data.number(0)) == (1, 0x0203, 0)
    assert data.name() == b"name"
    part = data.part(2)
    assert (part.left, part.number(2), part.left) == (2, 5, 0)
    assert data.left == 4


def test_version_and_flags() -> None:
    assert whole(Bytes(b"\x02\x00\x01\x03")) == (2, 0x0103)


def test_boxes_of_three_lengths() -> None:
    usual = b"\0\0\0\x0aftypxy"
    large = b"\0\0\0\1meta" + (19).to_bytes(8, "big") + b"abc"
    last = b"\0\0\0\0mdat12345"
    assert found(usual + large + last) == [(b"ftyp", 2), (b"meta", 3), (b"mdat", 5)]
    assert found(b"") == []


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0",
        b"\0\0\0\x08fty",
        b"\0\0\0\x09ftyp",
        b"\0\0\0\x07ftyp",
        b"\0\0\0\x01ftyp" + (15).to_bytes(8, "big"),
        b"\0\0\0\x01ftyp" + b"\xff" * 8,
    ],
)
def test_bytes_that_end_too_early(data: bytes) -> None:
    with pytest.raises(CutOff):
        found(data)
