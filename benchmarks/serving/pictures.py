"""The images that are sent, made of real ones: test images of CIFAR-10 as JPEG files.

Knows nothing of servers.
"""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

SMALL, LARGE, PHOTO = "958 bytes", "100 kB", "15 kB"
_SMALL_BYTES = 958
_TILE = 32


def files(data: Path) -> list[Path]:
    """The test images."""
    return sorted((data / "cifar10-jpeg" / "test").rglob("*.jpg"))


def picture(kind: str, data: Path) -> bytes:
    """One image of that kind."""
    if kind == SMALL:
        nearest = min(files(data), key=lambda file: abs(file.stat().st_size - _SMALL_BYTES))
        return nearest.read_bytes()
    if kind == LARGE:
        return mosaic(files(data), 640, 480, quality=82)
    return mosaic(files(data), 224, 224, quality=70)


def some(data: Path, count: int) -> list[bytes]:
    """As many small ones, of all classes."""
    found = files(data)
    return [file.read_bytes() for file in found[:: len(found) // count]][:count]


def mosaic(found: Sequence[Path], width: int, height: int, *, quality: int) -> bytes:
    """Real images side by side, as full of detail as a photo, as a JPEG."""
    whole = Image.new("RGB", (width, height))
    places = [(left, top) for top in range(0, height, _TILE) for left in range(0, width, _TILE)]
    step = len(found) // len(places)
    for place, file in zip(places, found[::step], strict=False):
        whole.paste(Image.open(file).convert("RGB"), place)
    out = io.BytesIO()
    whole.save(out, "JPEG", quality=quality)
    return out.getvalue()
