"""Every mode and format against pixels computed here with numpy from the format's definition."""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

import images

H, W = 12, 17  # odd, so that padding of rows and of packed bits shows
RNG = np.random.default_rng(7)
GREY = RNG.integers(0, 256, (H, W), dtype=np.uint8)
RGB = RNG.integers(0, 256, (H, W, 3), dtype=np.uint8)
RGBA = RNG.integers(0, 256, (H, W, 4), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (H, W), dtype=np.uint16)
DEEP_RGB = RNG.integers(0, 65536, (H, W, 3), dtype=np.uint16)
BIT = RNG.integers(0, 2, (H, W), dtype=np.uint8)
INDEX = RNG.integers(0, 16, (H, W), dtype=np.uint8)
PALETTE = RNG.integers(0, 256, (16, 3), dtype=np.uint8)
# Smooth, for formats that lose detail.
Y, X = np.mgrid[0:H, 0:W]
SMOOTH = np.stack([40 + 12 * X, 60 + 14 * Y, 200 - 5 * X - 4 * Y], axis=2).astype(np.uint8)
SMOOTH_GREY = SMOOTH[:, :, 0]


def grey(samples: Any) -> np.ndarray:
    return np.repeat(np.asarray(samples)[:, :, None], 3, axis=2)


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    a = alpha.astype(float)[:, :, None] / 255
    return colour * a + 255 * (1 - a)


def white_where(colour: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.where(mask[:, :, None], 255, colour)


def from_cmyk(cmyk: np.ndarray) -> np.ndarray:
    c = cmyk.astype(float)
    return (255 - c[:, :, :3]) * (255 - c[:, :, 3:]) / 255


def from_ycbcr(samples: np.ndarray) -> np.ndarray:
    y, cb, cr = (samples[:, :, i].astype(float) for i in range(3))
    rgb = (
        y + 1.402 * (cr - 128),
        y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128),
        y + 1.772 * (cb - 128),
    )
    return np.clip(np.stack(rgb, axis=2), 0, 255)


def from_lightness(lightness: np.ndarray) -> np.ndarray:
    """CIE L* of a neutral grey, 0..255 for 0..100, to sRGB."""
    f = (lightness / 2.55 + 16) / 116
    y = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    return grey(255 * np.where(y <= 0.0031308, 12.92 * y, 1.055 * y ** (1 / 2.4) - 0.055))


@dataclass(frozen=True)
class Case:
    name: str
    data: Callable[[Any], bytes]
    expected: np.ndarray
    tolerance: float = 1


PLTE = PALETTE.tobytes()
ALPHAS = np.array([0, 17, 128, 255] * 4, dtype=np.uint8)
KEY = int(DEEP[3, 4])
FLOAT = RNG.random((H, W)).astype(np.float32)
LAB_GREY = np.dstack([GREY, np.zeros_like(GREY), np.zeros_like(GREY)])
COLOUR_MAP = tuple(
    int(v) * 257 for v in np.concatenate([np.pad(PALETTE[:, i], (0, 240)) for i in range(3)])
)
PREMULTIPLIED = np.dstack(
    [(RGBA[:, :, :3] * (RGBA[:, :, 3:] / 255)).astype(np.uint8), RGBA[:, :, 3]]
)


def bmp_rows(samples: np.ndarray) -> bytes:
    width = samples.shape[1] * (samples.shape[2] if samples.ndim == 3 else 1)
    pad = b"\0" * (-width * samples.itemsize % 4)
    return b"".join(row.tobytes() + pad for row in samples)


def mode_of(samples: np.ndarray, mode: str) -> Image.Image:
    return Image.frombytes(mode, (W, H), samples.tobytes())


def indexed() -> Image.Image:
    image = mode_of(INDEX, "P")
    image.putpalette(PLTE)
    return image


def ccitt_bits() -> Image.Image:
    return Image.fromarray(BIT * 255).convert("1")


def run_lengths(samples: np.ndarray) -> bytes:
    rows = [b"".join(bytes((1, v)) for v in row) + b"\0\0" for row in samples[::-1]]
    return b"".join(rows) + b"\0\1"


BMP_PALETTE = np.pad(PALETTE[:, ::-1], ((0, 240), (0, 1))).tobytes()
PACKED = (
    ((RGB[:, :, 0] >> 3).astype("<u2") << 11)
    | ((RGB[:, :, 1] >> 2).astype("<u2") << 5)
    | (RGB[:, :, 2] >> 3)
)


def widened(samples: np.ndarray, bits: int) -> np.ndarray:
    return np.rint((samples >> (8 - bits)) * (255 / (2**bits - 1)))


PNG = [
    Case("1", lambda w: w.png(BIT, colour=0, depth=1), grey(BIT * 255.0)),
    Case("L2", lambda w: w.png(INDEX % 4, colour=0, depth=2), grey(INDEX % 4 * 85.0)),
    Case("L4", lambda w: w.png(INDEX, colour=0, depth=4), grey(INDEX * 17.0)),
    Case("L", lambda w: w.png(GREY, colour=0, depth=8), grey(GREY), 0),
    Case("I16", lambda w: w.png(DEEP, colour=0, depth=16), grey(DEEP / 257)),
    Case("LA", lambda w: w.png(RGBA[:, :, 2:], colour=4, depth=8),
         over_white(grey(RGBA[:, :, 2]), RGBA[:, :, 3])),
    Case("LA16", lambda w: w.png(DEEP_RGB[:, :, :2], colour=4, depth=16),
         over_white(grey(DEEP_RGB[:, :, 0] / 257), DEEP_RGB[:, :, 1] / 257), 2),
    Case("RGB", lambda w: w.png(RGB, colour=2, depth=8), RGB, 0),
    Case("RGB16", lambda w: w.png(DEEP_RGB, colour=2, depth=16), DEEP_RGB / 257),
    Case("RGBA", lambda w: w.png(RGBA, colour=6, depth=8),
         over_white(RGBA[:, :, :3], RGBA[:, :, 3])),
    Case("RGBA16", lambda w: w.png(RGBA.astype(np.uint16) * 257, colour=6, depth=16),
         over_white(RGBA[:, :, :3], RGBA[:, :, 3])),
    Case("P4", lambda w: w.png(INDEX, colour=3, depth=4, before=w.chunk(b"PLTE", PLTE)),
         PALETTE[INDEX], 0),
    Case("P8 with an alpha per colour",
         lambda w: w.png(INDEX, colour=3, depth=8,
                         before=w.chunk(b"PLTE", PLTE) + w.chunk(b"tRNS", ALPHAS.tobytes())),
         over_white(PALETTE[INDEX], ALPHAS[INDEX])),
    Case("P with one transparent colour",
         lambda w: w.png(INDEX, colour=3, depth=8,
                         before=w.chunk(b"PLTE", PLTE) + w.chunk(b"tRNS", b"\xff\xff\0\xff")),
         white_where(PALETTE[INDEX], INDEX == 2), 0),
    Case("1 with a transparent colour",
         lambda w: w.png(BIT, colour=0, depth=1, before=w.chunk(b"tRNS", b"\0\0")),
         grey(np.full((H, W), 255)), 0),
    Case("L4 with a transparent grey",
         lambda w: w.png(INDEX, colour=0, depth=4, before=w.chunk(b"tRNS", b"\0\x03")),
         white_where(grey(INDEX * 17), INDEX == 3), 0),
    Case("L with a transparent grey",
         lambda w: w.png(GREY, colour=0, depth=8,
                         before=w.chunk(b"tRNS", struct.pack(">H", GREY[2, 2]))),
         white_where(grey(GREY), GREY[2, 2] == GREY), 0),
    Case("I16 with a transparent grey",
         lambda w: w.png(DEEP, colour=0, depth=16, before=w.chunk(b"tRNS", struct.pack(">H", KEY))),
         white_where(grey(DEEP / 257), KEY == DEEP)),
    Case("RGB with a transparent colour",
         lambda w: w.png(RGB, colour=2, depth=8,
                         before=w.chunk(b"tRNS", struct.pack(">3H", *RGB[5, 5]))),
         white_where(RGB, (RGB[5, 5] == RGB).all(axis=2)), 0),
    Case("RGB16 with a transparent colour",
         lambda w: w.png(DEEP_RGB, colour=2, depth=16,
                         before=w.chunk(b"tRNS", struct.pack(">3H", *DEEP_RGB[5, 5]))),
         white_where(DEEP_RGB / 257, (DEEP_RGB[5, 5] == DEEP_RGB).all(axis=2))),
    Case("gamma is ignored",
         lambda w: w.png(RGB, colour=2, depth=8, before=w.chunk(b"gAMA", struct.pack(">I", 20000))),
         RGB, 0),
]  # fmt: skip

BMP = [
    Case("1", lambda w: w.pillow(ccitt_bits(), "BMP"), grey(BIT * 255), 0),
    Case("L", lambda w: w.pillow(GREY, "BMP"), grey(GREY), 0),
    Case("P", lambda w: w.pillow(indexed(), "BMP"), PALETTE[INDEX], 0),
    Case("RGB", lambda w: w.pillow(RGB, "BMP"), RGB, 0),
    Case("RGB top-down",
         lambda w: w.bmp(bmp_rows(RGB[:, :, ::-1]), (W, -H), bits=24), RGB, 0),
    Case("32 bits", lambda w: w.bmp(bmp_rows(np.ascontiguousarray(RGBA[::-1])), (W, H), bits=32),
         RGBA[:, :, 2::-1], 0),
    Case("565", lambda w: w.bmp(bmp_rows(np.ascontiguousarray(PACKED[::-1]).astype("<u2")), (W, H),
                                bits=16, compression=3,
                                masks=struct.pack("<3I", 0xF800, 0x7E0, 0x1F)),
         np.dstack([widened(RGB[:, :, 0], 5), widened(RGB[:, :, 1], 6), widened(RGB[:, :, 2], 5)]),
         2),
    Case("run lengths", lambda w: w.bmp(run_lengths(INDEX), (W, H), bits=8, compression=1,
                                        palette=BMP_PALETTE), PALETTE[INDEX], 0),
]  # fmt: skip

GIF = [
    Case("L", lambda w: w.pillow(GREY, "GIF"), grey(GREY), 0),
    Case("P", lambda w: w.pillow(indexed(), "GIF"), PALETTE[INDEX], 0),
    Case("transparent", lambda w: w.pillow(indexed(), "GIF", transparency=3),
         white_where(PALETTE[INDEX], INDEX == 3), 0),
    Case("animated", lambda w: w.pillow(indexed(), "GIF", save_all=True,
                                        append_images=[mode_of(GREY, "L")] * 2),
         PALETTE[INDEX], 0),
]  # fmt: skip

TIFF = [
    case
    for order in "<>"
    for case in (
        Case(f"L {order}", lambda w, o=order: w.tiff(GREY, photometric=1, order=o), grey(GREY), 0),
        Case(f"L, white is zero {order}",
             lambda w, o=order: w.tiff(GREY, photometric=0, order=o), grey(255 - GREY), 0),
        Case(f"P {order}", lambda w, o=order: w.tiff(INDEX, photometric=3, order=o,
                                                     tags={320: COLOUR_MAP}), PALETTE[INDEX], 0),
        Case(f"PA {order}", lambda w, o=order: w.tiff(np.dstack([INDEX, RGBA[:, :, 3]]), order=o,
                                                      photometric=3,
                                                      tags={320: COLOUR_MAP, 338: (2,)}),
             over_white(PALETTE[INDEX], RGBA[:, :, 3])),
        Case(f"LA {order}", lambda w, o=order: w.tiff(RGBA[:, :, 2:], photometric=1, order=o,
                                                      tags={338: (2,)}),
             over_white(grey(RGBA[:, :, 2]), RGBA[:, :, 3])),
        Case(f"La {order}", lambda w, o=order: w.tiff(PREMULTIPLIED[:, :, 2:], order=o,
                                                      photometric=1, tags={338: (1,)}),
             grey(255.0 - PREMULTIPLIED[:, :, 3] + PREMULTIPLIED[:, :, 2]), 2),
        Case(f"RGB {order}", lambda w, o=order: w.tiff(RGB, photometric=2, order=o), RGB, 0),
        Case(f"RGBA {order}", lambda w, o=order: w.tiff(RGBA, photometric=2, order=o,
                                                        tags={338: (2,)}),
             over_white(RGBA[:, :, :3], RGBA[:, :, 3])),
        Case(f"RGBa {order}", lambda w, o=order: w.tiff(PREMULTIPLIED, photometric=2, order=o,
                                                        tags={338: (1,)}),
             255.0 - PREMULTIPLIED[:, :, 3:] + PREMULTIPLIED[:, :, :3], 2),
        Case(f"CMYK {order}", lambda w, o=order: w.tiff(RGBA, photometric=5, order=o),
             from_cmyk(RGBA)),
        Case(f"CMYK16 {order}", lambda w, o=order: w.tiff(RGBA.astype(np.uint16) * 257, order=o,
                                                          photometric=5), from_cmyk(RGBA)),
        Case(f"YCbCr {order}", lambda w, o=order: w.tiff(RGB, photometric=6, order=o,
                                                         tags={530: (1, 1)}), from_ycbcr(RGB), 2),
        Case(f"LAB {order}", lambda w, o=order: w.tiff(LAB_GREY, photometric=8, order=o),
             from_lightness(GREY), 3),
        Case(f"I16 {order}", lambda w, o=order: w.tiff(DEEP, photometric=1, order=o),
             grey(DEEP / 257)),
        Case(f"RGB16 {order}", lambda w, o=order: w.tiff(DEEP_RGB, photometric=2, order=o),
             DEEP_RGB / 257),
        Case(f"signed 16 {order}",
             lambda w, o=order: w.tiff((DEEP.astype(int) - 32768).astype(np.int16),
                                       photometric=1, order=o),
             grey((DEEP - float(DEEP.min())) * 255 / (int(DEEP.max()) - int(DEEP.min())))),
        Case(f"I, 8-bit range {order}", lambda w, o=order: w.tiff(GREY.astype(np.int32),
                                                                  photometric=1, order=o),
             grey(GREY)),
        Case(f"I, 16-bit range {order}", lambda w, o=order: w.tiff(DEEP.astype(np.int32),
                                                                   photometric=1, order=o),
             grey(DEEP / 257)),
        Case(f"I, wider {order}",
             lambda w, o=order: w.tiff(DEEP.astype(np.int32) * 9999, photometric=1, order=o),
             grey(DEEP * (255 / int(DEEP.max())))),
        Case(f"F, 0..1 {order}", lambda w, o=order: w.tiff(FLOAT, photometric=1, order=o),
             grey(FLOAT * 255)),
        Case(f"F, 0..255 {order}",
             lambda w, o=order: w.tiff(GREY.astype(np.float32), photometric=1, order=o),
             grey(GREY)),
        Case(f"F, below zero {order}",
             lambda w, o=order: w.tiff(FLOAT * 8 - 4, photometric=1, order=o),
             grey((FLOAT - FLOAT.min()) * 255 / (FLOAT.max() - FLOAT.min()))),
    )
] + [
    Case("1", lambda w: w.pillow(ccitt_bits(), "TIFF"), grey(BIT * 255), 0),
    Case("1, group 4", lambda w: w.pillow(ccitt_bits(), "TIFF", compression="group4"),
         grey(BIT * 255), 0),
    Case("lzw", lambda w: w.pillow(RGB, "TIFF", compression="tiff_lzw"), RGB, 0),
    Case("deflate I16", lambda w: w.pillow(DEEP, "TIFF", compression="tiff_adobe_deflate"),
         grey(DEEP / 257)),
    Case("pages", lambda w: w.pillow(Image.fromarray(RGB), "TIFF", save_all=True,
                                     append_images=[Image.fromarray(GREY)]), RGB, 0),
    Case("jpeg", lambda w: w.pillow(SMOOTH, "TIFF", compression="jpeg", quality=95), SMOOTH, 8),
]  # fmt: skip

OTHERS = [
    Case("JPEG L", lambda w: w.pillow(SMOOTH_GREY, "JPEG", quality=95), grey(SMOOTH_GREY), 6),
    Case("JPEG RGB", lambda w: w.pillow(SMOOTH, "JPEG", quality=95, subsampling=0), SMOOTH, 8),
    Case("JPEG progressive",
         lambda w: w.pillow(SMOOTH, "JPEG", quality=95, progressive=True, subsampling=0),
         SMOOTH, 8),
    # Adobe's convention, which Pillow writes too: ink is stored as 255 - ink.
    Case("JPEG CMYK", lambda w: w.pillow(mode_of(np.dstack([SMOOTH, SMOOTH_GREY // 8]), "CMYK"),
                                         "JPEG", quality=95, subsampling=0),
         from_cmyk(np.dstack([SMOOTH, SMOOTH_GREY // 8])), 12),
    Case("WebP lossless", lambda w: w.pillow(RGB, "WEBP", lossless=True), RGB, 0),
    Case("WebP alpha", lambda w: w.pillow(RGBA, "WEBP", lossless=True, exact=True),
         over_white(RGBA[:, :, :3], RGBA[:, :, 3])),
    Case("WebP lossy", lambda w: w.pillow(SMOOTH, "WEBP", quality=95), SMOOTH, 20),
    Case("AVIF", lambda w: w.pillow(SMOOTH, "AVIF", quality=95, subsampling="4:4:4"), SMOOTH, 10),
    Case("AVIF L", lambda w: w.pillow(SMOOTH_GREY, "AVIF", quality=95), grey(SMOOTH_GREY), 8),
    Case("AVIF alpha",
         lambda w: w.pillow(np.dstack([SMOOTH, SMOOTH_GREY]), "AVIF", quality=95,
                            subsampling="4:4:4"),
         over_white(SMOOTH, SMOOTH_GREY), 14),
    Case("PBM text", lambda w: b"P1\n# bits\n%d %d\n" % (W, H)
         + b"\n".join(b" ".join(b"%d" % v for v in row) for row in BIT) + b"\n",
         grey(255 - BIT * 255), 0),
    Case("PGM text", lambda w: b"P2 %d %d 255\n" % (W, H)
         + b"\n".join(b" ".join(b"%d" % v for v in row) for row in GREY) + b"\n", grey(GREY), 0),
    Case("PPM text", lambda w: b"P3 %d %d 255\n" % (W, H)
         + b" ".join(b"%d" % v for v in RGB.reshape(-1)) + b"\n", RGB, 0),
    Case("PBM", lambda w: w.pillow(ccitt_bits(), "PPM"), grey(BIT * 255), 0),
    Case("PGM", lambda w: w.pillow(GREY, "PPM"), grey(GREY), 0),
    Case("PGM of few greys", lambda w: b"P5 %d %d 15\n" % (W, H) + INDEX.tobytes(),
         grey(INDEX * 17)),
    Case("PGM16", lambda w: b"P5 %d %d 65535\n" % (W, H) + DEEP.astype(">u2").tobytes(),
         grey(DEEP / 257)),
    Case("PGM16, dark", lambda w: b"P5 %d %d 65535\n" % (W, H) + GREY.astype(">u2").tobytes(),
         grey(GREY * 0), 1),
    Case("PPM", lambda w: w.pillow(RGB, "PPM"), RGB, 0),
]  # fmt: skip

CASES = [
    pytest.param(case, id=f"{family} {case.name}".strip())
    for family, cases in {"PNG": PNG, "BMP": BMP, "GIF": GIF, "TIFF": TIFF, "": OTHERS}.items()
    for case in cases
]


@pytest.mark.parametrize("case", CASES)
def test_every_mode_gives_the_pixels_that_its_format_means(case: Case, write: Any) -> None:
    data = case.data(write)
    colour = images.decode(data, size=None, channels=3)
    assert colour.pixels.dtype == np.uint8
    assert colour.pixels.shape == (H, W, 3)
    assert (colour.height, colour.width) == (H, W)
    np.testing.assert_allclose(colour.pixels, case.expected, rtol=0, atol=case.tolerance)
    plain = images.decode(data, size=None, channels=1)
    assert plain.pixels.shape == (H, W, 1)
    luminance = case.expected @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(plain.pixels[:, :, 0], luminance, rtol=0, atol=case.tolerance + 1)


def test_floats_that_are_no_numbers(write: Any) -> None:
    samples = FLOAT.copy()
    samples[0, :4] = [np.nan, np.inf, -np.inf, 1]
    pixels = images.decode(write.tiff(samples, photometric=1), size=None, channels=1).pixels
    assert pixels[0, :4, 0].tolist() == [0, 255, 0, 255]
    np.testing.assert_allclose(pixels[1:, :, 0], FLOAT[1:] * 255, rtol=0, atol=1)
    nothing = np.full((3, 3), np.nan, np.float32)
    assert not images.decode(write.tiff(nothing, photometric=1), size=None, channels=1).pixels.any()
    huge = np.array([[-3e38, 0, 3e38]], np.float32)
    pixels = images.decode(write.tiff(huge, photometric=1), size=None, channels=1).pixels
    assert pixels[0, :, 0].tolist() == [0, 128, 255]


def bilinear(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizing by its definition: a triangle as wide as two pixels of the smaller grid."""
    out = array.astype(float)
    for axis, after in enumerate(size):
        before = out.shape[axis]
        scale = before / after
        centres = (np.arange(after)[:, None] + 0.5) * scale - 0.5
        distance = np.abs(np.arange(before)[None] - centres) / max(scale, 1)
        weights = np.clip(1 - distance, 0, None)
        weights /= weights.sum(axis=1, keepdims=True)
        out = np.moveaxis(np.tensordot(weights, out, (1, axis)), 0, axis)
    return out


@pytest.mark.parametrize("size", [(5, 40), (30, 7), (1, 1), (H, W), (24, 34)])
def test_resizing(size: tuple[int, int], write: Any) -> None:
    expected = bilinear(RGB, size)
    decoded = images.decode(write.pillow(RGB, "PNG"), size=size, channels=3)
    np.testing.assert_allclose(decoded.pixels, expected, rtol=0, atol=1.01)
    assert (decoded.height, decoded.width) == (H, W)
    np.testing.assert_array_equal(images.resize(RGB, size, 3), decoded.pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_are_treated_as_files_are(channels: int, write: Any) -> None:
    for array in (RGB, GREY[:, :, None]):
        file = write.pillow(array if array.shape[2] == 3 else array[:, :, 0], "PNG")
        decoded = images.decode(file, size=(8, 8), channels=channels)
        np.testing.assert_array_equal(images.resize(array, (8, 8), channels), decoded.pixels)
        assert images.border(array) == (decoded.border, decoded.border_spread)


def test_pixels_may_be_written_to(write: Any) -> None:
    decoded = images.decode(write.pillow(GREY, "PNG"), size=None, channels=1)
    decoded.pixels[:] = 0
    resized = images.resize(RGB, (H, W), 3)
    resized[:] = 0
    assert RGB.any()


def test_frame_smaller_than_the_canvas() -> None:
    """A GIF may paint a part of its canvas: the rest is its transparent colour, so white."""
    part = Image.frombytes("P", (2, 2), b"\1\1\1\0")
    part.putpalette([9, 9, 9, 200, 0, 0])
    out = io.BytesIO()
    part.save(out, "GIF", transparency=0)
    data = bytearray(out.getvalue())
    data[6:10] = struct.pack("<HH", 4, 4)
    at = data.index(b",", 13 + 6)
    data[at + 1 : at + 5] = struct.pack("<HH", 1, 1)
    pixels = images.decode(bytes(data), size=None, channels=3).pixels
    assert pixels.shape == (4, 4, 3)
    assert pixels[1:3, 1:3].reshape(-1, 3).tolist() == [[200, 0, 0]] * 3 + [[255, 255, 255]]
    assert pixels[0].tolist() == [[255, 255, 255]] * 4
