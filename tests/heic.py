"""HEIC files as phones write them, by libheif's own encoder; and what their boxes say, changed."""

import io
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image


def encoded(image: Image.Image | np.ndarray, **options: Any) -> bytes:
    """A HEIC of one image; `tile_size` makes it of tiles, as phones do, `exif` may turn it."""
    out = io.BytesIO()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    # Each call changes the arguments of the encoder that it is given.
    options["enc_params"] = {"preset": "ultrafast"}
    pillow_heif.from_pillow(image).save(out, **options)
    return out.getvalue()
