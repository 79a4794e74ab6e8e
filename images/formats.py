"""Which format some bytes are in, told by their first bytes alone.

Names and file endings are never asked, and nothing is decoded here.
"""

import re

from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import PREFIXES as TIFF_PREFIXES
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from images import heif
from problems import Problem

READABLE = "JPEG, PNG, WebP, HEIC, AVIF, GIF, BMP, TIFF and PPM"

_READERS: tuple[tuple[bytes | tuple[bytes, ...], type[ImageFile]], ...] = (
    (b"\xff\xd8\xff", JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    ((b"GIF87a", b"GIF89a"), GifImageFile),
    (tuple(TIFF_PREFIXES), TiffImageFile),
)
_BMP_HEADER_SIZES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_PPM = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)++\d")  # possessive: linear on any bytes

# Told apart from junk, because "convert it" helps where "no image" would puzzle.
_UNREAD: tuple[tuple[bytes | tuple[bytes, ...], str], ...] = (
    (b"%PDF-", "PDF"),
    (b"8BPS", "Photoshop (PSD)"),
    ((b"\x00\x00\x01\x00", b"\x00\x00\x02\x00"), "Windows icon (ICO)"),
    (b"icns", "Apple icon (ICNS)"),
    ((b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51"), "JPEG 2000"),
    ((b"\x00\x00\x00\x0cJXL ", b"\xff\x0a"), "JPEG XL"),
    (b"II\xbc\x01", "JPEG XR"),
    ((b"%!PS", b"\xc5\xd0\xd3\xc6"), "EPS"),
    (b"DDS ", "DDS"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    ((b"#?RADIANCE", b"#?RGBE"), "Radiance HDR"),
    (b"SIMPLE  =", "FITS"),
    (b"qoif", "QOI"),
    (b"gimp xcf", "GIMP (XCF)"),
    ((b"P7\n", b"PF\n", b"Pf\n"), "PAM or PFM"),
)
_NO_IMAGE: tuple[tuple[bytes | tuple[bytes, ...], str], ...] = (
    ((b"<!doctype html", b"<html"), "a web page"),
    (b"version https://git-lfs", "a Git LFS pointer: the image itself was not checked out"),
    (b"pk\x03\x04", "a ZIP archive"),
)
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def reader_of(data: bytes) -> type[ImageFile]:
    """The class of Pillow that reads `data`; it may still find the rest of the file damaged.

    Raises `Problem`: `unsupported_format` for an image that danlu does not read, `not_an_image`.
    """
    for prefix, reader in _READERS:
        if data.startswith(prefix):
            return reader
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WebPImageFile
    if data[4:8] == b"ftyp":
        return _iso_media(data)
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES:
        return BmpImageFile
    if _PPM.match(data[:1024]):
        return PpmImageFile
    raise _unreadable(data)


def _iso_media(data: bytes) -> type[ImageFile]:
    """AVIF, HEIC and videos share a container; the list of brands tells them apart."""
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[at : at + 4] for at in range(8, end, 4)}
    if brands & {b"avif", b"avis"}:
        return AvifImageFile
    if brands & _HEIF_BRANDS:
        return _heic()
    raise Problem("not_an_image", "This is a video or another media file, not an image.")


def _heic() -> type[ImageFile]:
    reader = heif.reader()
    if reader is None:
        raise unsupported("a HEIC image, and the package pillow-heif is not installed here")
    return reader


def _unreadable(data: bytes) -> Problem:
    for prefix, name in _UNREAD:
        if data.startswith(prefix):
            return unsupported(f"a {name} file")
    if data[128:132] == b"DICM":
        return unsupported("a DICOM file")
    text = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for prefix, name in _NO_IMAGE:
        if text.startswith(prefix):
            return Problem("not_an_image", f"This is {name}.")
    if text.startswith((b"<svg", b"<?xml", b"<!")) and b"<svg" in text:
        return unsupported("an SVG drawing")
    return Problem("not_an_image", f"These bytes are no image; danlu reads {READABLE}.")


def unsupported(what: str) -> Problem:
    """The problem of an image, `what` in words, that is sound but that danlu does not read."""
    return Problem("unsupported_format", f"This is {what}; danlu reads {READABLE}.")
