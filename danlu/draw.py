"""Pictures made of characters: half blocks in colour, or shades where there is none.

Knows Pillow and rich; what the pictures mean is said by whoever captions them.
"""

import io
from collections.abc import Sequence
from typing import cast

from PIL import Image
from rich.color import Color
from rich.console import Console, Group
from rich.style import Style
from rich.table import Table
from rich.text import Text

SIDE = 14  # pixels: five pictures fit beside each other in 80 columns
GAP = 2
ROWS = (10, 5, 4, 2, 1)  # pictures in a row: divisors of 20, so that rows are full
SHADES = " ░▒▓█"
ASCII_SHADES = " .:-=+*#%@"
COLOUR_SYSTEMS = frozenset({"256", "truecolor", "windows"})


def gallery(pictures: Sequence[tuple[bytes, Text]], console: Console) -> Table:
    """Encoded images with a caption under each, as many in a row as the console is wide."""
    room = (console.width + GAP) // (SIDE + GAP)
    in_a_row = next((count for count in ROWS if count <= room), 1)
    table = Table.grid(padding=(0, GAP, 0, 0))
    for _ in range(in_a_row):
        table.add_column(width=SIDE, overflow="fold")
    for start in range(0, len(pictures), in_a_row):
        row = pictures[start : start + in_a_row]
        table.add_row(*(Group(picture(data, console), caption, "") for data, caption in row))
    return table


def picture(data: bytes, console: Console) -> Text:
    """One encoded image, `SIDE` columns wide and half as many lines high."""
    with Image.open(io.BytesIO(data)) as image:
        small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    if console.color_system in COLOUR_SYSTEMS:
        return _half_blocks(small)
    shades = SHADES if console.encoding.startswith("utf") else ASCII_SHADES
    return _shaded(small.convert("L"), shades)


def _half_blocks(image: Image.Image) -> Text:
    """Two pixels in each character: the upper as its colour, the lower as its background."""
    drawn = Text(no_wrap=True)
    for y in range(0, image.height, 2):
        for x in range(image.width):
            upper, lower = (
                Color.from_rgb(*cast(tuple[int, int, int], image.getpixel((x, row))))
                for row in (y, y + 1)
            )
            drawn.append("▀", Style(color=upper, bgcolor=lower))
        drawn.append("\n")
    drawn.right_crop()
    return drawn


def _shaded(image: Image.Image, shades: str) -> Text:
    """A character is twice as high as it is wide: one for two pixels above each other."""
    flat = image.resize((image.width, image.height // 2), Image.Resampling.BOX)
    brightness = flat.tobytes()  # one byte a pixel, row by row
    lines = [
        "".join(shades[pixel * len(shades) // 256] for pixel in brightness[i : i + flat.width])
        for i in range(0, len(brightness), flat.width)
    ]
    return Text("\n".join(lines), no_wrap=True)
