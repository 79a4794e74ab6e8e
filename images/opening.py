"""From the bytes of a file to one image in memory, within limits.

The only module that deals with damaged and hostile files; it does not know what the pixels are for.
"""

import contextlib
import io
import warnings
from dataclasses import dataclass
from typing import IO, Any, cast

from PIL import Image
from PIL.ExifTags import Base as ExifTag
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from images import formats, heif, pixels
from problems import Problem

MAX_PIXELS = 100_000_000
# Beyond this, resizing one line would take more memory than the image itself.
_MAX_SIDE = 1_000_000
_LIMITS = f"danlu reads up to {MAX_PIXELS // 10**6} megapixels, and {_MAX_SIDE} pixels a side"
# Pixels written, all passes counted: progressive scans and overlapping TIFF strips can write the
# same pixels thousands of times out of a few kB.
_MAX_WORK = 20 * MAX_PIXELS
# Pillow decodes these in Python, about 500 times slower than the others and holding the GIL.
_SLOW_CODECS = {"ppm": 500, "ppm_plain": 500, "bmp_rle": 500}
_HEIC_FACTOR = 5  # HEVC takes about so many times as long as JPEG
# Each part of a file is read with a few calls, which Pillow makes in Python: a file of 25 MB can
# have millions of empty ones. A GIF has a part for each 255 bytes. These are read pixel by pixel,
# which `_SLOW_CODECS` count.
_MOST_READS, _BYTES_A_READ = 20_000, 50
_WITHOUT_PARTS = ("BMP", "PPM")
_START_OF_SCAN = b"\xff\xda"

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# How Pillow says that a file is sound but beyond it (12-bit JPEG, odd TIFF samples ...).
_BEYOND_PILLOW = (
    "cannot handle",
    "support not installed",
    "unknown filter category",
    "unknown pixel mode",
    "unsupported",
    "not yet supported",
)

# Pillow's own limit lies above ours. The warning is raised where warnings are errors, as in tests.
_ABOVE_LIMIT = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_BOMB = ("decompressed data too large", "too much memory")

# Pillow warns about damaged metadata, which nobody here reads. Said once, at import: catching
# warnings per call is not safe with threads before Python 3.14.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True, slots=True)
class Opened:
    """One image, opaque, mode `L` or `RGB`, as it lies in the file: `turn` makes it upright.

    A drafted JPEG is smaller than its original, and `box` is the part of it that is the picture:
    a line of 300 pixels becomes 37.5, so the last of its 38 pixels counts half.
    """

    image: Image.Image
    box: tuple[float, float, float, float] | None
    turn: Image.Transpose | None
    width: int  # of the upright original
    height: int
    frames: int
    format: str  # of the file, as Pillow calls it: JPEG, PNG ...
    mode: str  # of its pixels before they were made `L` or `RGB`: P, RGBA, CMYK, I;16 ...


def read(data: bytes, *, at_least: tuple[int, int] | None) -> Opened:
    """The first image of a file, on white.

    `at_least` (height, width), upright: a JPEG may come out smaller than it is, but not than this.
    Raises `Problem` and nothing else: `empty_file`, `not_an_image`, `unsupported_format`,
    `truncated_image`, `image_too_large` (told by the header, before any pixel is decoded).
    """
    if not data:
        raise Problem("empty_file", "The file has no bytes in it.")
    reader = formats.reader_of(data)
    try:
        return _read(reader, data, at_least)
    except Problem:
        raise
    # Everything, on purpose. Pillow's readers parse foreign bytes in Python without one error type
    # of their own: SyntaxError, ValueError, KeyError, struct.error, zlib.error, RecursionError and
    # more have been seen, each caused by the file. A bug of ours hides here no longer than its
    # traceback, which is chained.
    except Exception as error:
        raise _problem(reader.format or "", error) from error


def turn(file: ImageFile) -> Image.Transpose | None:
    """What makes the image upright, by EXIF or XMP; damaged metadata asks for nothing.

    To be asked of a loaded file, since a PNG may tell it after the pixels; JPEG knows it before.
    """
    # These turn themselves while loading; their size is upright before.
    if isinstance(file, TiffImageFile) or file.format == "HEIF":
        return None
    with contextlib.suppress(Exception):
        return _UPRIGHT.get(file.getexif().get(ExifTag.Orientation, 1))
    return None


def _read(reader: type[ImageFile], data: bytes, at_least: tuple[int, int] | None) -> Opened:
    if reader.format == "HEIF":  # the reader reads all that is described when it opens a file
        _check_sum(heif.work(data) * _HEIC_FACTOR)
    file = reader(io.BytesIO(data) if reader.format in _WITHOUT_PARTS else _Parts(data))
    _check_size(file.width, file.height)
    _check_work(file, data)
    frames = _frames(file)
    _mend_transparency(file)
    size, mode = file.size, file.mode
    box = _draft(file, at_least) if at_least and isinstance(file, JpegImageFile) else None
    file.load()
    way = turn(file)
    width, height = size[::-1] if way in pixels.SIDEWAYS else size
    image = pixels.flatten(file)
    return Opened(
        image=image,
        box=box,
        turn=way,
        width=width,
        height=height,
        frames=frames,
        format=reader.format or "",
        mode=mode,
    )


def _check_size(width: int, height: int) -> None:
    if width * height <= MAX_PIXELS and max(width, height) <= _MAX_SIDE:
        return
    raise Problem("image_too_large", f"The image has {width} x {height} pixels; {_LIMITS}.")


def _check_work(file: ImageFile, data: bytes) -> None:
    """Refuse files that make a decoder write the same pixels over and over."""
    work = 0
    for codec, extents, *_ in file.tile:
        left, top, right, bottom = extents or (0, 0, *file.size)
        work += abs((right - left) * (bottom - top)) * _SLOW_CODECS.get(codec, 1)
    if isinstance(file, JpegImageFile):
        work *= _passes(file, data)
    _check_sum(work)


def _check_sum(work: int) -> None:
    if work > _MAX_WORK:
        raise _too_much_work()


def _too_much_work() -> Problem:
    return Problem(
        "image_too_large",
        "The image is packed in a way that takes too long to unpack at its size.",
        hint="Save it again as an ordinary JPEG or PNG.",
    )


class _Parts(io.BytesIO):
    """Some bytes that are read a part after another, and not in too many."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = _MOST_READS + len(data) // _BYTES_A_READ

    def read(self, size: int | None = -1, /) -> bytes:
        """As ever. Raises `Problem` image_too_large once there have been too many parts."""
        self._left -= 1
        if self._left < 0:
            raise _too_much_work()
        return super().read(size)


def _passes(file: JpegImageFile, data: bytes) -> int:
    """At most how often decoding goes over the pixels: for most files once."""
    header = 6 + 2 * file.layers  # bytes of a scan's header when all components are in that scan
    here = cast("IO[bytes]", file.fp).tell()  # Pillow stops just behind the first one
    in_one = data[here - header - 2 : here - header] == _START_OF_SCAN
    if in_one and "progressive" not in file.info:
        return 1  # all further scans, such as those of a film behind the photo, are never read
    return data.count(_START_OF_SCAN)


def _draft(
    file: JpegImageFile, at_least: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    """Have a JPEG decoded at 1/2, 1/4 or 1/8; the part of the result that is the picture."""
    size = file.size
    if max(size) < 2 * min(at_least):  # no fraction of it would do, however it is turned
        return None
    drafted = file.draft(None, at_least if turn(file) in pixels.SIDEWAYS else at_least[::-1])
    return drafted[1] if drafted and file.size != size else None


def _frames(file: ImageFile) -> int:
    """1, or more when the file holds more images than the one taken.

    GIF and TIFF know their number only after a walk through the whole file, which may be long:
    2 stands for any number there.
    """
    more: Any = vars(file).get("n_frames")
    if more is None:
        more = 1
        with contextlib.suppress(Exception):  # a damaged second frame does not spoil the first
            more += bool(getattr(file, "is_animated", False))
    return int(more)


def _mend_transparency(file: ImageFile) -> None:
    """Bring the transparent colour of a PNG, given in samples of the file, to Pillow's 8 bits."""
    key = file.info.get("transparency")
    rawmode = file.tile[0].args if file.tile else None
    if isinstance(key, tuple):
        file.info["transparency"] = tuple(v >> 8 if rawmode == "RGB;16B" else v & 255 for v in key)
    elif isinstance(key, int) and file.mode == "L":
        scale = {"L;2": 85, "L;4": 17}.get(cast("str", rawmode), 1)
        file.info["transparency"] = key * scale & 255


def _problem(name: str, error: Exception) -> Problem:
    if isinstance(error, _ABOVE_LIMIT):
        return Problem("image_too_large", f"The {name} image has too many pixels; {_LIMITS}.")
    said = str(error) or type(error).__name__
    lower = said.lower()
    if isinstance(error, MemoryError) or any(words in lower for words in _BOMB):
        return Problem("image_too_large", f"Decoding this {name} takes too much memory ({said}).")
    if any(words in lower for words in _BEYOND_PILLOW):
        return formats.unsupported(f"a kind of {name} that is not read ({said})")
    return Problem("truncated_image", f"The {name} image is cut off or damaged ({said}).")
