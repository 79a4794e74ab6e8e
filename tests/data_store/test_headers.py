"""Sizes and greyness from headers."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from data_store import headers
from images import opening


def test_median_size_and_colour(tmp_path: Path, png: Callable[..., bytes]) -> None:
    files = []
    for number, size in enumerate([(10, 20), (30, 40), (50, 60)]):
        files.append(tmp_path / f"{number}.png")
        files[-1].write_bytes(png(size=size, mode="L"))
    assert headers.typical(files) == (40, 30, 1)
    (tmp_path / "colour.png").write_bytes(png(size=(10, 20)))
    assert headers.typical([*files, tmp_path / "colour.png"]) == (20, 10, 3)


def test_sixteen_bit_is_grey(tmp_path: Path) -> None:
    Image.new("I;16", (4, 4)).save(tmp_path / "deep.png")
    assert headers.typical([tmp_path / "deep.png"]) == (4, 4, 1)


@pytest.mark.parametrize("orientation", [1, 3, 5, 8])
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_a_turned_photo_counts_upright(tmp_path: Path, ending: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = tmp_path / f"turned.{ending}"
    Image.new("RGB", (40, 30)).save(photo, exif=exif)
    opened = opening.read(photo.read_bytes(), at_least=None)
    assert headers.typical([photo]) == (opened.height, opened.width, 3)
    assert (opened.height, opened.width) == ((40, 30) if orientation >= 5 else (30, 40))


def test_what_cannot_be_read_does_not_count(tmp_path: Path, png: Callable[..., bytes]) -> None:
    (tmp_path / "junk.png").write_bytes(b"junk")
    (tmp_path / "good.png").write_bytes(png())
    bad = [tmp_path / "junk.png", tmp_path / "gone.png"]
    assert headers.typical([*bad, tmp_path / "good.png"]) == (8, 8, 3)
    assert headers.typical(bad) is None
