"""Any mode of Pillow to 8-bit grey or RGB, and what is measured and done on those pixels.

Knows nothing of files: an image that comes here is loaded.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_WHITE = (255, 255, 255)
# ITU-R 601-2, as Pillow's own conversion to grey; from 0..255 to 0..1.
_LUMINANCE = np.array([0.299, 0.587, 0.114]) / 255
_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})

# The turns that swap width and height.
SIDEWAYS = frozenset(
    {
        Image.Transpose.TRANSPOSE,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
        Image.Transpose.ROTATE_270,
    }
)


def flatten(image: Image.Image) -> Image.Image:
    """The image as `L` or `RGB`, laid on white where it is transparent.

    16-bit samples keep their upper byte. 32-bit samples, integer or float, have no range of their
    own: the smallest of 0..1 (floats), 0..255 and 0..65535 that holds them is taken, else the
    range from their minimum to their maximum.
    """
    mode = image.mode
    if mode in ("I", "F") or mode.startswith("I;16"):
        return Image.fromarray(_deep_grey(image))
    if mode in _ALPHA or "transparency" in image.info:
        return _on_white(image)
    if mode in ("L", "RGB"):
        return image
    return image.convert("L" if mode == "1" else "RGB")


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "La":  # Pillow has no direct way from here to RGBA
        image = image.convert("LA")
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    white = Image.new("RGB", image.size, _WHITE)
    white.paste(rgba, mask=rgba)
    return white


def _deep_grey(image: Image.Image) -> NDArray[np.uint8]:
    values = np.asarray(image)
    if values.dtype.itemsize == 2:
        grey = (values >> 8).astype(np.uint8)
        # The one transparent grey that a 16-bit PNG may name; everything else is opaque.
        grey[values == image.info.get("transparency", -1)] = 255
        return grey
    if image.format == "PPM":  # Pillow stretches every deep PGM to 0..65535
        return (values >> 8).astype(np.uint8)
    return _stretch(values)


def _stretch(samples: NDArray[np.int32 | np.float32]) -> NDArray[np.uint8]:
    values = samples.astype(np.float32)
    finite = np.isfinite(values)
    low = float(np.min(values, initial=np.inf, where=finite))
    high = float(np.max(values, initial=-np.inf, where=finite))
    if low >= 0:
        ranges = (1, 255, 65535) if samples.dtype.kind == "f" else (255, 65535)
        low, high = 0.0, float(next((top for top in ranges if top >= high), high))
    # What overflows on the way ends at one end of the range, which is where it belongs.
    with np.errstate(all="ignore"):
        values -= low
        values *= 255 / max(high - low, 1e-30)
        np.nan_to_num(values, copy=False, nan=0)
        values += 0.5
        return np.clip(values, 0, 255, out=values).astype(np.uint8)


def ring(image: Image.Image) -> NDArray[np.float64]:
    """Luminance, 0..1, of each outermost pixel of an `L` or `RGB` image, each once, in no order."""
    width, height = image.size
    strips = [(0, 0, width, 1)]
    if height > 1:
        strips.append((0, height - 1, width, height))
    if height > 2:
        strips.append((0, 1, 1, height - 1))
        if width > 1:
            strips.append((width - 1, 1, width, height - 1))
    # Cropping reads the ring alone: an array of the whole image would copy it.
    samples = np.frombuffer(b"".join([image.crop(strip).tobytes() for strip in strips]), np.uint8)
    return samples / 255 if image.mode == "L" else samples.reshape(-1, 3) @ _LUMINANCE


def resize(
    image: Image.Image,
    size: tuple[int, int] | None,
    *,
    channels: int,
    box: tuple[float, float, float, float] | None = None,
    turn: Image.Transpose | None = None,
) -> NDArray[np.uint8]:
    """The `L` or `RGB` image, or its part in `box`, turned, at `size` (height, width) after that.

    Writable uint8 (H, W, channels). Bilinear with antialiasing, as torchvision's `Resize((h, w))`
    does on a PIL image.
    """
    if channels == 1 and image.mode == "RGB":
        image = image.convert("L")
    if size is not None:
        goal = size if turn in SIDEWAYS else size[::-1]
        if box is not None or image.size != goal:
            image = image.resize(goal, Image.Resampling.BILINEAR, box=box)
    if turn is not None:  # late, when the image is small
        image = image.transpose(turn)
    if channels == 3 and image.mode == "L":  # late too: resizing grey costs a third
        image = image.convert("RGB")
    # A copy, since torch warns about arrays that it may not write to.
    return np.array(image).reshape(image.height, image.width, channels)
