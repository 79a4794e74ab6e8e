"""Ordinary JPEGs come out as Pillow decodes them, to the bit; all others are left to it."""

import random
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image

import images
from images import InvertRule, opening, ordinary, pixels
from problems import Problem

RNG = np.random.default_rng(8)


def picture(height: int, width: int, channels: int) -> np.ndarray:
    """Something smooth with noise in it."""
    slopes = np.cumsum(np.cumsum(RNG.normal(0, 3, (height, width, channels)), 0), 1)
    return (np.abs(slopes) % 256).astype(np.uint8)


def jpeg(write: Any, array: np.ndarray, **options: Any) -> bytes:
    return write.pillow(array[:, :, 0] if array.shape[2] == 1 else array, "JPEG", **options)


def by_pillow(data: bytes, size: tuple[int, int], channels: int) -> np.ndarray | str:
    try:
        opened = opening.read(data, at_least=size)
    except Problem as problem:
        return problem.code
    assert (opened.turn, opened.frames, opened.width, opened.height) == (None, 1, *size[::-1])
    return pixels.resize(opened.image, size, channels=channels, box=opened.box)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"quality": 1},
        {"quality": 100, "subsampling": 0},
        {"subsampling": 1},
        {"optimize": True, "comment": b"made by hand"},
        {"restart_marker_blocks": 2},
    ],
    ids=str,
)
def test_the_pixels_are_those_of_pillow(channels: int, options: Any, write: Any) -> None:
    for height, width in [(32, 32), (28, 28), (1, 1), (17, 5), (3, 90), (64, 48)]:
        data = jpeg(write, picture(height, width, channels), **options)
        found = ordinary.decode(data, size=(height, width), channels=channels)
        assert found is not None
        assert (found.dtype, found.flags.writeable) == (np.uint8, True)
        assert np.array_equal(found, by_pillow(data, (height, width), channels))


@pytest.mark.parametrize("subsampling", ["440", "411"])
def test_rare_subsamplings_too(subsampling: str) -> None:
    array = picture(40, 56, 3)
    data = simplejpeg.encode_jpeg(array, colorsubsampling=subsampling)
    found = ordinary.decode(data, size=(40, 56), channels=3)
    assert found is not None
    assert np.array_equal(found, by_pillow(data, (40, 56), 3))


COMMENTS = b"\xff\xfe\x00\x02" * 100 + b"\xff\xdb"


def exif(write: Any) -> bytes:
    data = Image.Exif()
    data[0x0112] = 6
    return jpeg(write, picture(32, 32, 3), exif=data)


def cmyk(write: Any) -> bytes:
    return write.pillow(Image.new("CMYK", (32, 32), (9, 99, 199, 0)), "JPEG")


@pytest.mark.parametrize(
    "make",
    [
        exif,
        cmyk,
        lambda write: jpeg(write, picture(32, 32, 3), progressive=True),
        lambda write: jpeg(write, picture(32, 32, 3), icc_profile=b"a profile"),
        lambda write: jpeg(write, picture(32, 32, 3))[:-40],
        lambda write: jpeg(write, picture(32, 32, 3))[2:],
        lambda write: jpeg(write, picture(32, 32, 3))[:20],
        lambda write: jpeg(write, picture(32, 32, 1)),
        lambda write: jpeg(write, picture(32, 31, 3)),
        lambda write: jpeg(write, picture(32, 32, 3)).replace(b"\xff\xdb", COMMENTS, 1),
        lambda write: write.pillow(picture(32, 32, 3), "PNG"),
        lambda _: b"",
    ],
    ids=["turned", "cmyk", "progressive", "profile", "cut", "headless", "head", "grey", "narrow",
         "comments", "png", "empty"],
)  # fmt: skip
def test_everything_else_is_left_to_pillow(make: Any, write: Any) -> None:
    assert ordinary.decode(make(write), size=(32, 32), channels=3) is None


def test_without_a_size_it_is_left_to_pillow(write: Any) -> None:
    assert ordinary.decode(jpeg(write, picture(9, 9, 3)), size=None, channels=3) is None


def test_whatever_is_taken_of_damaged_files_is_what_pillow_says(write: Any) -> None:
    chance, taken = random.Random(4), 0
    for number in range(3000):
        channels = (1, 3)[number % 2]
        damaged = bytearray(jpeg(write, picture(24, 40, channels), quality=60))
        at = chance.randrange(len(damaged))
        match number % 3:
            case 0:
                damaged[at] = chance.randrange(256)
            case 1:
                del damaged[at : at + 5]
            case _:
                damaged[at:at] = bytes([255, chance.randrange(256), 0, 4])
        data = bytes(damaged)
        found = ordinary.decode(data, size=(24, 40), channels=channels)
        if found is not None:
            taken += 1
            assert np.array_equal(found, by_pillow(data, (24, 40), channels))
    assert 100 < taken < 2900


@pytest.mark.parametrize("channels", [1, 3])
def test_border_and_negatives_are_as_of_a_png(channels: int, write: Any) -> None:
    array = np.full((20, 20, channels), 250, np.uint8)
    array[4:-4, 4:-4] = 10
    data = jpeg(write, array)
    same = write.pillow(by_pillow(data, (20, 20), channels).squeeze(), "PNG")
    for rule in (None, InvertRule(0.0), InvertRule(1.0)):
        of_jpeg, of_png = (
            images.decode(one, size=(20, 20), channels=channels, invert=rule)
            for one in (data, same)
        )
        assert np.array_equal(of_jpeg.pixels, of_png.pixels)
        assert (of_jpeg.border, of_jpeg.border_spread) == (of_png.border, of_png.border_spread)
        assert of_jpeg.inverted == of_png.inverted == (rule == InvertRule(0.0))
        assert (of_jpeg.width, of_jpeg.height, of_jpeg.frames) == (20, 20, 1)
