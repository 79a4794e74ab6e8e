"""Limits, damaged and hostile files, rotation, frames: what is decided before there are pixels."""

import io
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import images
from images import opening
from problems import Problem
from tests import heic

RNG = np.random.default_rng(3)
Y, X = np.mgrid[0:24, 0:40]
SMOOTH = np.stack([6 * X, 10 * Y, 255 - 3 * X - 5 * Y], axis=2).astype(np.uint8)
FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF", "PPM"]


def saved(image: Image.Image | np.ndarray, format: str, **options: Any) -> bytes:
    if format == "HEIF":
        return heic.encoded(image, **options)
    out = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(
        out, format, **options
    )
    return out.getvalue()


def outcome(data: bytes, size: tuple[int, int] | None, channels: int) -> images.Decoded | Problem:
    try:
        return images.decode(data, size=size, channels=channels)
    except Problem as problem:
        return problem


def code_of(data: bytes) -> str:
    found = outcome(data, (32, 32), 3)
    assert isinstance(found, Problem)
    return found.code


# Size


def zeros(count: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join([packer.compress(bytes(1_000_000)) for _ in range(count // 1_000_000)]) + (
        packer.flush()
    )


def lying_gif(screen: tuple[int, int], frame: tuple[int, int]) -> bytes:
    return (
        b"GIF89a" + struct.pack("<HH", *screen) + b"\x80\0\0\0\0\0\xff\xff\xff"
        b"," + struct.pack("<HHHH", 0, 0, *frame) + b"\0\x02\x02\x4c\x01\0;"
    )  # fmt: skip


def lying_webp(width: int, height: int) -> bytes:
    canvas = b"\0\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X\x0a\0\0\0" + canvas + saved(SMOOTH, "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def lying_jpeg(width: int, height: int) -> bytes:
    data = bytearray(saved(SMOOTH, "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def test_200_megapixels_in_a_few_kB_are_refused_from_the_header(write: Any) -> None:
    one = np.zeros((1, 1), np.uint8)
    bombs = {
        "PNG": write.png(one, colour=0, depth=8, claimed=(20_000, 10_000)),
        "wide PNG": write.png(one, colour=0, depth=8, claimed=(100_000_000, 1)),
        "GIF": lying_gif((20_000, 10_000), (1, 1)),
        "GIF's frame": lying_gif((1, 1), (20_000, 10_000)),
        "GIF's frame, between Pillow's limit and ours": lying_gif((1, 1), (12_000, 10_000)),
        "WebP": lying_webp(16_000, 13_000),
        "JPEG": lying_jpeg(20_000, 10_000),
        "TIFF": write.tiff(one, photometric=1, tags={256: (20_000,), 257: (10_000,)}),
        "BMP": write.bmp(b"", (20_000, 10_000), bits=1, palette=b"\0\0\0\0\xff\xff\xff\0"),
        "PPM": b"P6 20000 10000 255\n",
    }
    started = time.thread_time()
    codes = {name: code_of(data) for name, data in bombs.items()}
    assert codes == dict.fromkeys(bombs, "image_too_large")
    assert time.thread_time() - started < 1
    assert max(map(len, bombs.values())) < 10_000


def test_the_limit_is_named(write: Any) -> None:
    data = write.png(np.zeros((1, 1), np.uint8), colour=0, depth=8, claimed=(20_000, 10_000))
    with pytest.raises(Problem, match="20000 x 10000 pixels; danlu reads up to 100 mega"):
        images.decode(data, size=None, channels=1)


@pytest.mark.parametrize("shape", [(1, 65_536), (65_536, 1), (1, 1_000_000)])
def test_strips_are_read(shape: tuple[int, int], write: Any) -> None:
    data = write.png(np.full(shape, 77, np.uint8), colour=0, depth=8)
    decoded = images.decode(data, size=(4, 4), channels=1)
    assert (decoded.height, decoded.width) == shape
    assert (decoded.pixels == 77).all()
    assert decoded.border == pytest.approx(77 / 255)


@pytest.mark.parametrize(
    ("format", "side"),
    [("JPEG", 65_500), ("GIF", 65_535), ("BMP", 65_536), ("TIFF", 65_536), ("PPM", 65_536),
     ("WEBP", 16_383), ("AVIF", 32_768), ("HEIF", 8_192)],
)  # fmt: skip
def test_strips_of_every_format(format: str, side: int) -> None:
    """As wide as Pillow writes them."""
    options = {"tile_size": 256} if format == "HEIF" else {}
    data = saved(Image.new("RGB", (side, 1), (90, 90, 90)), format, **options)
    decoded = images.decode(data, size=(4, 4), channels=1)
    assert (decoded.height, decoded.width) == (1, side)
    np.testing.assert_allclose(decoded.pixels, 90, atol=2)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "behind", [b"PK\x03\x04" + bytes(500), b"<html><script>1</script>", b"\xff\xd8\xff\xe0" * 50]
)
def test_what_lies_behind_an_image_changes_nothing(format: str, behind: bytes) -> None:
    data = saved(SMOOTH, format)
    alone = images.decode(data, size=(9, 7), channels=3)
    assert images.decode(data + behind, size=(9, 7), channels=3).pixels.tolist() == (
        alone.pixels.tolist()
    )


def test_a_large_image_below_the_limit_is_read(write: Any) -> None:
    """95 megapixels, which Pillow alone would warn about."""
    data = (
        b"\x89PNG\r\n\x1a\n"
        + write.chunk(b"IHDR", struct.pack(">IIBBBBB", 79_992, 9_500, 1, 0, 0, 0, 0))
        + write.chunk(b"IDAT", zeros(95_000_000))
        + write.chunk(b"IEND", b"")
    )
    assert code_of(data) == "image_too_large"
    data = data.replace(
        write.chunk(b"IHDR", struct.pack(">IIBBBBB", 79_992, 9_500, 1, 0, 0, 0, 0)),
        write.chunk(b"IHDR", struct.pack(">IIBBBBB", 9_999, 9_500, 8, 0, 0, 0, 0)),
    )
    assert images.decode(data, size=(2, 2), channels=1).width == 9_999


# Work


def scan(component: int) -> bytes:
    return struct.pack(">HHBBBBBB", 0xFFDA, 8, 1, component, 0x11 * (component > 1), 0, 63, 0)


def split_jpeg(rounds: int) -> bytes:
    """A JPEG of 97 megapixels that gives its components again and again, 12 bytes each."""
    head = bytearray(saved(np.zeros((16, 16, 3), np.uint8), "JPEG", subsampling=0))
    head = head[: head.index(b"\xff\xda")]
    at = head.index(b"\xff\xc0")
    head[at + 5 : at + 9] = struct.pack(">HH", 1_500, 65_000)
    scans = [scan(component) + b"\0\0" for component in (1, 2, 3)] * rounds
    return bytes(head) + b"".join(scans) + b"\xff\xd9"


def repeated_strips(write: Any, count: int) -> bytes:
    width, height = 8_000, 4_000
    fields = {
        256: (width,), 257: (height,), 258: (1,), 259: (1,), 262: (1,), 277: (1,),
        273: (8, 9) * (count // 2), 278: (height - 1,), 279: (1,),
    }  # fmt: skip
    return write.ifd(bytes(width * height // 8), fields)


def run_length_bmp(write: Any, side: int) -> bytes:
    rows = b"\1\1\0\0" * side
    return write.bmp(rows, (side, side), bits=8, compression=1, palette=bytes(1024))


def test_files_that_write_the_same_pixels_again_and_again_are_refused(write: Any) -> None:
    progressive = saved(Image.new("L", (20_000, 4_900)), "JPEG", progressive=True)
    last = progressive[progressive.rindex(b"\xff\xda") : -2]
    bombs = {
        "progressive": progressive[:-2] + last * 30 + progressive[-2:],
        "split": split_jpeg(20),
        "strips": repeated_strips(write, 2_000),
        "run lengths": run_length_bmp(write, 10_000),
        "slow PPM": b"P5 5000 5000 254\n" + bytes(5000),
        "text PPM": b"P2 5000 5000 255\n",
    }
    started = time.thread_time()
    assert {name: code_of(data) for name, data in bombs.items()} == dict.fromkeys(
        bombs, "image_too_large"
    )
    assert time.thread_time() - started < 2


def test_their_honest_relatives_are_read(write: Any) -> None:
    whole = saved(SMOOTH, "JPEG", progressive=True, quality=95)
    film = saved(SMOOTH, "JPEG", quality=95) + b"\xff\xda" * 100_000
    big = run_length_bmp(write, 200)
    for data, shape in ((whole, (24, 40)), (film, (24, 40)), (big, (200, 200))):
        decoded = images.decode(data, size=None, channels=3)
        assert (decoded.height, decoded.width) == shape


@pytest.mark.parametrize("size", [1_000_000, 25_000_000])
def test_files_of_millions_of_parts_are_refused(write: Any, size: int) -> None:
    jpeg, png = saved(SMOOTH, "JPEG"), saved(SMOOTH, "PNG")
    ends = png.index(b"IDAT") - 4
    empty = write.chunk(b"teSt", b"")
    bombs = {
        "empty segments": jpeg[:2] + b"\xff\xe5\0\2" * (size // 4) + jpeg[2:],
        "filled up": jpeg[:2] + b"\xff" * size + jpeg[2:],
        "between segments": jpeg[:2] + b"\xff\0" * (size // 2) + jpeg[2:],
        "chunks before": png[:ends] + empty * (size // len(empty)) + png[ends:],
    }
    assert {name: code_of(data) for name, data in bombs.items()} == dict.fromkeys(
        bombs, "image_too_large"
    )


def test_many_small_parts_are_read(write: Any) -> None:
    noise = RNG.integers(0, 256, (900, 1000, 3), dtype=np.uint8)
    png, gif = saved(noise, "PNG"), saved(noise[:, :, 0], "GIF")
    at = png.index(b"IDAT") - 4
    packed = b""
    while png[at + 4 : at + 8] == b"IDAT":
        length = int.from_bytes(png[at : at + 4], "big")
        packed += png[at + 8 : at + 8 + length]
        at += 12 + length
    parts = b"".join(
        write.chunk(b"IDAT", packed[at : at + 512]) for at in range(0, len(packed), 512)
    )
    small = png[: png.index(b"IDAT") - 4] + parts + png[at:]
    runs = np.stack([np.ones_like(noise[:, :, 0]), noise[:, :, 0]], axis=2)  # of one pixel each
    rows = b"".join(row.tobytes() + b"\0\0" for row in runs)
    bmp = write.bmp(rows, (1000, 900), bits=8, compression=1, palette=bytes(1024))
    ppm = b"P6 1000 900 1000\n" + bytes(900 * 1000 * 3 * 2)
    for data in (png, small, gif, bmp, ppm):
        decoded = images.decode(data, size=None, channels=3)
        assert (decoded.height, decoded.width) == (900, 1000)


def test_bombs_in_metadata(write: Any) -> None:
    one = np.zeros((1, 1), np.uint8)
    for name, head in ((b"zTXt", b"k\0\0"), (b"iCCP", b"k\0\0"), (b"iTXt", b"k\0\1\0\0\0")):
        extra = write.chunk(name, head + zeros(50_000_000))
        assert code_of(write.png(one, colour=0, depth=8, before=extra)) == "image_too_large"


# Damage


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("progressive", [False, True])
def test_cut_off_anywhere(format: str, progressive: bool) -> None:
    options = {"progressive": True} if progressive and format == "JPEG" else {}
    noise = RNG.integers(0, 256, (60, 50, 3), dtype=np.uint8)
    data = saved(noise, format, **options)
    for tenth in range(1, 10):
        assert code_of(data[: len(data) * tenth // 10]) == "truncated_image", tenth
    for length in range(1, 40):
        assert code_of(data[:length]) in ("truncated_image", "not_an_image"), length


def test_cut_off_compressed_tiff() -> None:
    data = saved(RNG.integers(0, 256, (60, 50, 3), dtype=np.uint8), "TIFF", compression="tiff_lzw")
    for tenth in range(1, 10):
        assert code_of(data[: len(data) * tenth // 10]) == "truncated_image", tenth


def test_headers_without_pixels(write: Any) -> None:
    assert code_of(lying_jpeg(0, 0)) == "truncated_image"
    assert code_of(b"\xff\xd8\xff\xd9") == "truncated_image"
    assert code_of(b"II*\0\x08\0\0\0") == "truncated_image"
    assert code_of(lying_gif((0, 0), (0, 0))) == "truncated_image"
    assert code_of(b"RIFF\x04\0\0\0WEBP") == "truncated_image"
    no_idat = write.png(np.zeros((1, 1), np.uint8), colour=0, depth=8)
    at = no_idat.index(b"IDAT") - 4
    assert code_of(no_idat[:at] + write.chunk(b"IEND", b"")) == "truncated_image"


def test_sound_files_of_a_kind_that_is_not_read(write: Any) -> None:
    jpeg = bytearray(saved(SMOOTH, "JPEG"))
    jpeg[jpeg.index(b"\xff\xc0") + 4] = 12  # bits per sample
    assert code_of(bytes(jpeg)) == "unsupported_format"
    doubles = write.tiff(np.zeros((4, 4)), photometric=1)
    assert code_of(doubles) == "unsupported_format"
    assert code_of(write.bmp(bytes(64), (4, 4), bits=2)) == "unsupported_format"


def test_a_directory_that_leads_to_itself(write: Any) -> None:
    data = bytearray(write.tiff(SMOOTH, photometric=2))
    at = struct.unpack("<I", data[4:8])[0]
    count = struct.unpack("<H", data[at : at + 2])[0]
    data[at + 2 + 12 * count : at + 6 + 12 * count] = struct.pack("<I", at)
    decoded = images.decode(bytes(data), size=None, channels=3)
    np.testing.assert_array_equal(decoded.pixels, SMOOTH)
    assert decoded.frames == 1


FRAMES: dict[str, Any] = {"save_all": True, "append_images": [Image.new("RGB", (40, 24))]}
SEEDS = [
    saved(SMOOTH, "JPEG"),
    saved(SMOOTH, "JPEG", progressive=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"),
    saved(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG"),
    saved(SMOOTH, "PNG"),
    saved(Image.fromarray(SMOOTH).quantize(16), "PNG", transparency=b"\0\x80\xff"),
    saved(SMOOTH[:, :, 0].astype(np.uint16) * 257, "PNG"),
    saved(Image.fromarray(SMOOTH), "PNG", **FRAMES),
    saved(SMOOTH, "WEBP"),
    saved(np.dstack([SMOOTH, SMOOTH[:, :, 0]]), "WEBP", lossless=True),
    saved(SMOOTH, "BMP"),
    saved(Image.fromarray(SMOOTH).quantize(16), "BMP"),
    saved(Image.fromarray(SMOOTH), "GIF", **FRAMES),
    saved(SMOOTH, "TIFF"),
    saved(SMOOTH, "TIFF", compression="tiff_lzw"),
    saved(SMOOTH, "TIFF", compression="jpeg"),
    saved(SMOOTH[:, :, 0].astype(np.float32), "TIFF"),
    saved(Image.fromarray(SMOOTH).convert("LAB"), "TIFF"),
    saved(SMOOTH, "AVIF"),
    saved(np.tile(SMOOTH, (6, 4, 1)), "HEIF", tile_size=64),
    saved(np.dstack([SMOOTH, SMOOTH[:, :, 0]]), "HEIF", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"),
    saved(SMOOTH, "PPM"),
    b"P3 2 2 255 1 2 3 4 5 6 7 8 9 10 11 12\n",
]  # fmt: skip


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """A valid file with some bytes changed, cut out, repeated or put in; its head more often."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        reach = min(len(data), draw(st.sampled_from([64, 512, 1 << 20])))
        at = draw(st.integers(0, max(reach - 1, 0)))
        length = draw(st.integers(0, 8))
        new = draw(st.one_of(
            st.binary(min_size=length, max_size=length),
            st.just(b""),
            st.binary(max_size=8),
            st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\xff\xda", bytes(data[at : at + 32]) * 3]),
        ))  # fmt: skip
        data[at : at + length] = new
    return bytes(data)


@settings(max_examples=250, deadline=None)
@given(mutants(), st.sampled_from([None, (9, 7)]), st.sampled_from([1, 3]))
def test_damaged_files_give_an_image_or_a_problem(
    data: bytes, size: tuple[int, int] | None, channels: int
) -> None:
    found = outcome(data, size, channels)
    if isinstance(found, Problem):
        assert found.status in (400, 413)
        assert found.detail
    else:
        assert found.pixels.shape == (*(size or (found.height, found.width)), channels)
        assert 0 <= found.border <= 1.0001
        assert found.frames >= 1


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([seed[:12] for seed in SEEDS]), st.binary(max_size=200))
def test_junk_behind_a_signature_is_a_problem(head: bytes, junk: bytes) -> None:
    found = outcome(head + junk, None, 3)
    assert not isinstance(found, Problem) or found.status in (400, 413)


# Rotation

TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


def exif(turn: int, *, order: str = "<") -> bytes:
    magic = {"<": b"II*\0", ">": b"MM\0*"}[order]
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, turn, 0)
    directory = struct.pack(order + "IH", 8, 1) + entry + struct.pack(order + "I", 0)
    return b"Exif\0\0" + magic + directory


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF"])
def test_images_are_turned_upright(format: str, turn: int) -> None:
    options: dict[str, Any] = {
        "JPEG": {"quality": 95, "subsampling": 0, "exif": exif(turn)},
        "PNG": {"exif": exif(turn, order=">")},
        "WEBP": {"lossless": True, "exif": exif(turn)},
        "AVIF": {"quality": 95, "subsampling": "4:4:4", "exif": exif(turn)},
        "HEIF": {"chroma": 444, "exif": exif(turn)},
        "TIFF": {"tiffinfo": {0x0112: turn}},
    }[format]
    expected = TURNS[turn](SMOOTH)
    decoded = images.decode(saved(SMOOTH, format, **options), size=None, channels=3)
    assert (decoded.height, decoded.width) == expected.shape[:2]
    np.testing.assert_allclose(decoded.pixels, expected, rtol=0, atol=10)


def test_a_png_may_tell_its_rotation_after_the_pixels(write: Any) -> None:
    data = write.png(SMOOTH, colour=2, depth=8, after=write.chunk(b"eXIf", exif(6)[6:]))
    decoded = images.decode(data, size=None, channels=3)
    assert (decoded.height, decoded.width) == (40, 24)
    np.testing.assert_array_equal(decoded.pixels, np.rot90(SMOOTH, -1))


@pytest.mark.parametrize("turn", [0, 9, 65535])
def test_rotations_that_do_not_exist(turn: int) -> None:
    decoded = images.decode(saved(SMOOTH, "JPEG", exif=exif(turn)), size=None, channels=3)
    assert decoded.pixels.shape == SMOOTH.shape


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_damaged_metadata_does_not_spoil_the_image(format: str) -> None:
    data = saved(SMOOTH, format, exif=b"Exif\0\0no directory")
    assert images.decode(data, size=None, channels=3).pixels.shape == SMOOTH.shape


# Draft


def photo(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 120 * np.sin(x / 31 + i) * np.cos(y / 23 - i) for i in range(3)]
    return np.stack(waves, axis=2).astype(np.uint8)


@pytest.mark.parametrize("turn", [1, 6])
@pytest.mark.parametrize("shape", [(900, 300), (300, 900), (256, 256), (255, 700)])
def test_large_jpegs_are_drafted_without_losing_what_the_size_shows(
    shape: tuple[int, int], turn: int
) -> None:
    array = photo(*shape)
    for size in ((32, 32), (200, 60), (60, 200)):
        data = saved(array, "JPEG", quality=95, subsampling=0, exif=exif(turn))
        expected = images.resize(np.ascontiguousarray(TURNS[turn](array)), size, 3).astype(int)
        decoded = images.decode(data, size=size, channels=3)
        assert (decoded.height, decoded.width) == TURNS[turn](array).shape[:2]
        assert np.abs(decoded.pixels - expected).mean() < 3


@pytest.mark.parametrize("turn", [1, 6])
@pytest.mark.parametrize("shape", [(40, 80), (80, 40), (79, 79), (80, 80), (81, 100), (79, 170)])
def test_what_is_drafted_is_what_pillow_would_draft(shape: tuple[int, int], turn: int) -> None:
    data = saved(photo(*shape), "JPEG", exif=exif(turn))
    at_least = (40, 60)
    drafted = Image.open(io.BytesIO(data))
    drafted.draft(None, at_least if turn == 6 else at_least[::-1])
    assert opening.read(data, at_least=at_least).image.size == drafted.size


# What the file was


@pytest.mark.parametrize(
    ("mode", "format"),
    [
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
        ("P", "GIF"),
        ("RGBA", "PNG"),
        ("I;16", "PNG"),
        ("1", "TIFF"),
    ],
)
def test_format_and_mode_are_those_of_the_file(mode: str, format: str) -> None:
    opened = opening.read(saved(Image.new(mode, (9, 5)), format), at_least=None)
    assert (opened.format, opened.mode) == (format, mode)
    assert opened.image.mode in ("L", "RGB")


# Frames


def test_frames_are_counted_where_that_is_cheap() -> None:
    first, other = Image.fromarray(SMOOTH), Image.new("RGB", (40, 24), "red")
    frames = {"save_all": True, "append_images": [other, Image.new("RGB", (40, 24), "blue")]}
    found = {
        format: images.decode(saved(first, format, **frames), size=None, channels=3)
        for format in ("PNG", "WEBP", "AVIF", "GIF", "TIFF")
    }
    counted = {format: decoded.frames for format, decoded in found.items()}
    assert counted == {"PNG": 3, "WEBP": 3, "AVIF": 3, "GIF": 2, "TIFF": 2}
    for format, decoded in found.items():
        error = np.abs(decoded.pixels.astype(int) - SMOOTH).mean()
        assert error < 8, format


@pytest.mark.parametrize("format", FORMATS)
def test_still_images_have_one_frame(format: str) -> None:
    assert images.decode(saved(SMOOTH, format), size=None, channels=3).frames == 1


def test_a_damaged_second_frame_does_not_matter() -> None:
    data = saved(Image.fromarray(SMOOTH), "GIF", **FRAMES)
    whole = images.decode(data, size=None, channels=3)
    second = data.rindex(b"\x21\xf9\x04")
    for length in range(second + 1, second + 20):
        cut = images.decode(data[:length], size=None, channels=3)
        np.testing.assert_array_equal(cut.pixels, whole.pixels)


# Threads and warnings


def test_threads_see_the_same_pixels() -> None:
    files = [saved(SMOOTH, format) for format in FORMATS] * 6 + [b"junk", SEEDS[16]] * 3

    def look(data: bytes) -> tuple[bytes, float] | str:
        found = outcome(data, (16, 16), 3)
        return found.code if isinstance(found, Problem) else (found.pixels.tobytes(), found.border)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(look, files)) == [look(data) for data in files]


def test_warnings_of_pillow_are_not_heard(write: Any) -> None:
    """In a process of its own: pytest replaces the filters of this one."""
    broken_exif = exif(6)[:-4].replace(struct.pack("<H", 1), struct.pack("<H", 9), 1)
    odd_tiff = write.tiff(SMOOTH, photometric=2, tags={282: (1, 2, 3, 4, 5, 6)})
    invalid_apng = write.png(SMOOTH, colour=2, depth=8, before=write.chunk(b"acTL", bytes(8)))
    files = [saved(SMOOTH, "JPEG", exif=broken_exif), odd_tiff, invalid_apng]
    script = (
        "import sys, images\n"
        "for line in sys.stdin:\n"
        "    print(images.decode(bytes.fromhex(line), size=None, channels=3).pixels.shape)\n"
    )
    for action in ("error", "always"):
        done = subprocess.run(
            [sys.executable, "-W", action, "-c", script],
            input="\n".join(data.hex() for data in files),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        assert done.stdout.splitlines() == ["(40, 24, 3)", "(24, 40, 3)", "(24, 40, 3)"]
