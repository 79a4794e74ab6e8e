"""Files as phones make them of an image, each with the same pixels saved plainly beside it.

Plainly: what Pillow and libheif themselves make of the file, upright and whole, as an RGB PNG.
Nothing here goes through danlu's `images`.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import pillow_heif
from PIL import Image, ImageOps

# How the pixels lie in the file, by the number that EXIF has for how to turn them upright.
_LYING = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_ORIENTATION = 0x0112
_TILE = 512  # iPhones'


@dataclass(frozen=True, slots=True)
class Photo:
    """A file and the same pixels as a plain PNG."""

    name: str
    data: bytes
    plain: bytes


def photos(images: Sequence[Image.Image], count: int, *, megapixels: float) -> Iterator[Photo]:
    """`count` photos of the RGB images, in turn JPEG, HEIC and screenshot, and in turn in each of
    the eight directions.
    """
    for number, image in zip(range(count), cycle(images), strict=False):
        yield photo(number, image, megapixels=megapixels)


def photo(number: int, image: Image.Image, *, megapixels: float) -> Photo:
    """That of a number among `photos`."""
    large = _enlarged(image, megapixels)
    kind, turn = number % 3, 1 + number // 3 % len(_LYING)
    if kind == 0:
        return _jpeg(f"IMG_{number:04}.JPG", large, turn)
    if kind == 1:
        return _heic(f"IMG_{number:04}.HEIC", large, turn)
    return _screenshot(f"IMG_{number:04}.PNG", large, number // 3)


def _enlarged(image: Image.Image, megapixels: float) -> Image.Image:
    scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC)


def _lying(image: Image.Image, turn: int) -> tuple[Image.Image, bytes]:
    """The pixels as a camera held otherwise stores them, and its EXIF."""
    exif = Image.Exif()
    exif[_ORIENTATION] = turn
    way = _LYING[turn]
    return image if way is None else image.transpose(way), exif.tobytes()


def _jpeg(name: str, image: Image.Image, turn: int) -> Photo:
    out = io.BytesIO()
    stored, exif = _lying(image, turn)
    stored.save(out, "JPEG", quality=88, exif=exif)
    with Image.open(io.BytesIO(out.getvalue())) as read:
        return Photo(name, out.getvalue(), _png(ImageOps.exif_transpose(read)))


def _heic(name: str, image: Image.Image, turn: int) -> Photo:
    """Of tiles; libheif writes the direction as a mark of the container, as phones do."""
    out = io.BytesIO()
    stored, exif = _lying(image, turn)
    pillow_heif.from_pillow(stored).save(
        out, quality=60, exif=exif, tile_size=_TILE, thumbnails=[320],
        enc_params={"preset": "ultrafast"},
    )  # fmt: skip
    return Photo(name, out.getvalue(), _png(pillow_heif.read_heif(out.getvalue()).to_pillow()))


def _screenshot(name: str, image: Image.Image, number: int) -> Photo:
    """With transparency, in 256 colours, or as it is."""
    out = io.BytesIO()
    made = [image.convert("RGBA"), image.quantize(256), image][number % 3]
    made.save(out, "PNG", compress_level=1)
    return Photo(name, out.getvalue(), _png(made))


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.convert("RGB").save(out, "PNG", compress_level=1)
    return out.getvalue()
