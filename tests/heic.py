"""HEIC files, by libheif's own encoder, of the kinds that phones write."""

import io
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image


def encoded(
    image: Image.Image | np.ndarray, *others: Image.Image, primary: int = 0, **options: Any
) -> bytes:
    """A HEIC of images of which the one at `primary` comes first; `tile_size` makes it of tiles, as
    phones do, `exif` may turn it.
    """
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    made = pillow_heif.from_pillow(image)
    for other in others:
        made.add_from_pillow(other)
    out = io.BytesIO()
    options.setdefault("quality", 90)
    made.save(out, primary_index=primary, enc_params={"preset": "ultrafast"}, **options)
    return out.getvalue()
