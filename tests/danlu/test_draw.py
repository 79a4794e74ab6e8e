import io
from typing import Any

import pytest
from PIL import Image
from rich.console import Console
from rich.text import Text

from danlu import draw


def png(mode: str, *, upper: Any, lower: Any) -> bytes:
    """An image of 8 × 8 pixels: half of it one colour, half another."""
    image = Image.new(mode, (8, 8), upper)
    image.paste(lower, (0, 4, 8, 8))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def screen(encoding: str = "utf-8", **options: Any) -> Console:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    return Console(file=file, **{"width": 80, **options})


def test_shades_without_colours() -> None:
    drawn = draw.picture(png("L", upper=255, lower=0), screen())

    lines = drawn.plain.split("\n")
    assert [len(line) for line in lines] == [14] * 7
    assert (lines[0], lines[-1]) == ("█" * 14, " " * 14)


def test_plain_letters_where_nothing_else_can_be_written() -> None:
    drawn = draw.picture(png("L", upper=255, lower=128), screen("ascii"))

    lines = drawn.plain.split("\n")
    assert (lines[0], lines[-1]) == ("@" * 14, "+" * 14)
    assert drawn.plain.isascii()


def test_half_blocks_in_colour() -> None:
    console = screen(force_terminal=True, color_system="truecolor")

    drawn = draw.picture(png("RGB", upper=(255, 0, 0), lower=(0, 0, 255)), console)

    assert drawn.plain == "\n".join(["▀" * 14] * 7)
    first, last = drawn.spans[0].style, drawn.spans[-1].style
    assert str(first) == "#ff0000 on #ff0000"
    assert str(last) == "#0000ff on #0000ff"


@pytest.mark.parametrize(("width", "in_a_row"), [(300, 10), (80, 5), (70, 4), (40, 2), (10, 1)])
def test_a_gallery_fits_the_console(width: int, in_a_row: int) -> None:
    console = screen(width=width)
    pictures = [(png("L", upper=255, lower=0), Text(f"no {i}")) for i in range(20)]

    console.print(draw.gallery(pictures, console))

    console.file.seek(0)
    lines = console.file.read().splitlines()
    captions = [line.split("no ")[1:] for line in lines if "no " in line]
    assert [len(row) for row in captions] == [in_a_row] * (20 // in_a_row)
    assert max(len(line.rstrip()) for line in lines) <= width
