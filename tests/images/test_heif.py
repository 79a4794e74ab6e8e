"""HEIC: what phones send, what is found in the container before decoding, and what is refused."""

import io
import re
import struct
import subprocess
import sys
import time

import numpy as np
import pillow_heif
import pytest
from PIL import Image

import images
from images import heif
from problems import Problem
from tests.heic import encoded

Y, X = np.mgrid[0:192, 0:320]
SMOOTH = np.stack([X // 2, Y, 255 - X // 2], axis=2).astype(np.uint8)
TILED = encoded(SMOOTH, tile_size=128)


def code_of(data: bytes) -> str:
    with pytest.raises(Problem) as caught:
        images.decode(data, size=(32, 32), channels=3)
    return caught.value.code


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + kind + body


def full(kind: bytes, version: int, *content: bytes) -> bytes:
    return box(kind, struct.pack(">I", version << 24), *content)


def container(
    kinds: list[bytes],
    *,
    references: tuple[bytes, ...] = (),
    side: int = 64,
    extents: list[tuple[int, int]] | None = None,
    before: bytes = b"",
) -> bytes:
    """A HEIC without pixels: item 1 is the image, all have the same size and lie where `extents`
    (start, length) says.
    """
    infos = [full(b"infe", 2, struct.pack(">HH", i + 1, 0), k, b"\0") for i, k in enumerate(kinds)]
    count = struct.pack(">H", len(kinds))
    places = [
        struct.pack(">HHHII", i + 1, 0, 1, *place)
        for i, place in enumerate(extents or [(0, 1)] * len(kinds))
    ]
    owned = [struct.pack(">HBB", i + 1, 1, 1) for i in range(len(kinds))]
    properties = [
        box(b"ipco", full(b"ispe", 0, struct.pack(">II", side, side))),
        full(b"ipma", 0, struct.pack(">I", len(kinds)), *owned),
    ]
    described = [
        before,
        full(b"pitm", 0, struct.pack(">H", 1)),
        full(b"iinf", 0, count, *infos),
        full(b"iref", 0, *references),
        box(b"iprp", *properties),
        full(b"iloc", 0, b"\x44\0", count, *places),
    ]
    return box(b"ftyp", b"heic", b"\0\0\0\0", b"mif1heic") + full(b"meta", 0, *described)


def made_of(item: int, *others: int, kind: bytes = b"dimg") -> bytes:
    return box(kind, struct.pack(f">HH{len(others)}H", item, len(others), *others))


class TestReader:
    def test_its_library_is_loaded_by_the_first_heic_alone(self) -> None:
        script = (
            "import sys, images\n"
            "image = bytes.fromhex(sys.stdin.read())\n"
            "before = 'pillow_heif' in sys.modules\n"
            "width = images.decode(image, size=None, channels=3).width\n"
            "print(before, width, 'pillow_heif' in sys.modules)\n"
        )
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", script],
            input=TILED.hex(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.stdout, done.stderr) == ("False 320 True\n", "")

    def test_without_the_library_it_is_a_format_that_is_not_read(self) -> None:
        script = (
            "import sys, images\n"
            "from problems import Problem\n"
            "sys.modules['pillow_heif'] = None\n"
            "try: images.decode(bytes.fromhex(sys.stdin.read()), size=None, channels=3)\n"
            "except Problem as problem: print(problem.code, problem.detail)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            input=TILED.hex(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout.startswith("unsupported_format"), done.stderr
        assert "pillow-heif is not installed" in done.stdout


class TestPixels:
    @pytest.mark.parametrize("tile_size", [0, 128])
    def test_tiles_are_put_together(self, tile_size: int) -> None:
        data = encoded(SMOOTH, tile_size=tile_size)
        decoded = images.decode(data, size=None, channels=3)
        assert np.abs(decoded.pixels.astype(int) - SMOOTH).mean() < 2
        assert decoded.frames == 1

    def test_thumbnails_are_not_taken_for_the_image(self) -> None:
        data = encoded(SMOOTH, thumbnails=[160, 80, 40])
        decoded = images.decode(data, size=(32, 32), channels=3)
        assert (decoded.width, decoded.height, decoded.frames) == (320, 192, 1)

    def test_of_a_burst_the_image_that_the_file_names_first(self) -> None:
        burst = [
            Image.fromarray(SMOOTH),
            Image.new("RGB", (64, 64), "red"),
            Image.new("RGB", (80, 64), "blue"),
        ]
        decoded = images.decode(encoded(*burst, primary=1), size=None, channels=3)
        assert (decoded.width, decoded.height) == (64, 64)
        assert decoded.pixels[:, :, 0].min() > 240
        assert decoded.frames == 2

    def test_a_film_behind_the_photo_is_not_looked_at(self) -> None:
        film = box(b"mpvd", b"\0" * 5000)
        decoded = images.decode(TILED + film, size=None, channels=3)
        assert decoded.frames == 1

    def test_grey_of_ten_bits(self) -> None:
        deep = Image.fromarray(np.tile(np.arange(320, dtype=np.uint16) * 200, (64, 1)))
        decoded = images.decode(encoded(deep, quality=-1), size=None, channels=1)
        expected = np.arange(320) * 200 >> 8
        np.testing.assert_allclose(decoded.pixels[5, :, 0], expected, atol=1)

    def test_colours_of_ten_bits(self) -> None:
        deep = (SMOOTH.astype(np.uint16) << 8).tobytes()
        out = io.BytesIO()
        pillow_heif.from_bytes("RGB;16", (320, 192), deep).save(out, quality=-1, chroma="444")
        decoded = images.decode(out.getvalue(), size=None, channels=3)
        np.testing.assert_allclose(decoded.pixels, SMOOTH, rtol=0, atol=3)


class TestWork:
    def test_of_tiles_all_are_counted(self) -> None:
        assert heif.work(TILED) == 6 * 128 * 128

    def test_transparency_is_counted(self) -> None:
        clear = np.dstack([SMOOTH, SMOOTH[:, :, 0]])
        assert heif.work(encoded(clear)) == 2 * 192 * 320

    def test_a_tile_counts_as_often_as_it_is_named(self) -> None:
        tiles = made_of(1, *[2] * 600)
        data = container([b"grid", b"hvc1"], references=(tiles,), side=1_000)
        assert heif.work(data) == 600 * 10**6
        assert code_of(data) == "image_too_large"

    def test_an_image_that_is_another_one(self) -> None:
        kinds = [b"iden", b"grid", b"hvc1", b"hvc1"]
        data = container(kinds, references=(made_of(1, 2), made_of(2, 3, 4)))
        assert heif.work(data) == 2 * 64 * 64

    @pytest.mark.parametrize(
        ("kinds", "references"),
        [
            ([b"av01"], ()),
            ([b"iovl", b"hvc1"], (made_of(1, 2),)),
            ([b"grid", b"grid", b"hvc1"], (made_of(1, 2), made_of(2, 3))),
            ([b"iden"], (made_of(1, 1),)),
        ],
    )
    def test_kinds_that_are_not_read(
        self, kinds: list[bytes], references: tuple[bytes, ...]
    ) -> None:
        assert code_of(container(kinds, references=references)) == "unsupported_format"

    @pytest.mark.parametrize(
        ("kinds", "references"),
        [
            ([], ()),
            ([b"grid"], ()),
            ([b"grid"], (made_of(1, 9),)),
            ([b"iden", b"hvc1"], (made_of(1, 2, 2),)),
        ],
    )
    def test_items_that_are_missing(
        self, kinds: list[bytes], references: tuple[bytes, ...]
    ) -> None:
        assert code_of(container(kinds, references=references)) == "truncated_image"

    def test_items_that_share_their_bytes(self) -> None:
        before = box(b"free", bytes(100_000))
        data = container([b"hvc1"] * 30, extents=[(0, 90_000)] * 30, before=before)
        assert code_of(data) == "image_too_large"

    def test_a_few_bytes_that_ask_for_much_reading(self) -> None:
        began = time.thread_time()
        many = full(b"iloc", 0, b"\0\0\xff\xff", struct.pack(">HHH", 1, 0, 65_535) * 65_535)
        assert code_of(container([b"hvc1"], before=many)) == "image_too_large"
        assert code_of(container([b"hvc1"], before=box(b"free", bytes(10**6)))) == "image_too_large"
        assert time.thread_time() - began < 1

    def test_numbers_of_other_widths(self) -> None:
        """Version 2 of the list of places, with numbers of eight bytes, as large files have."""
        place = struct.pack(">IHHQHQQ", 1, 0, 0, 10, 1, 20, 30)
        places = full(b"iloc", 2, b"\x88\x80", struct.pack(">I", 1), place)
        usual = container([b"hvc1"])
        at = usual.index(b"iloc") - 4
        data = usual[:at] + places
        meta = data.index(b"meta") - 4
        data = data[:meta] + struct.pack(">I", len(data) - meta) + data[meta + 4 :]
        assert heif.work(data) == 64 * 64


class TestDamage:
    def test_cut_off_tiles_are_not_left_black(self) -> None:
        for tenth in range(1, 10):
            assert code_of(TILED[: len(TILED) * tenth // 10]) == "truncated_image", tenth
        assert code_of(TILED[:-1]) == "truncated_image"

    def test_a_raster_of_12_MB_in_2_kB(self) -> None:
        """Within the limits, so it is read."""
        white = encoded(Image.new("RGB", (2048, 2048), "white"), quality=10, tile_size=0)
        assert len(white) < 2_500
        assert images.decode(white, size=(8, 8), channels=3).pixels.min() > 250

    @pytest.mark.parametrize(
        ("sides", "code"), [((20_000, 20_000), "image_too_large"), ((64, 64), "truncated_image")]
    )
    def test_a_size_that_the_pixels_do_not_have(self, sides: tuple[int, int], code: str) -> None:
        data = encoded(SMOOTH)
        lie = re.sub(rb"(?s)(ispe\0\0\0\0).{8}", rb"\g<1>" + struct.pack(">II", *sides), data)
        assert code_of(lie) == code

    def test_a_film_before_the_photo(self) -> None:
        at = TILED.index(b"meta") - 4
        moved = TILED[:at] + box(b"moov", b"") + TILED[at:]
        # All places are counted from the start of the file, and lie eight bytes further now.
        assert heif.work(moved) == 6 * 128 * 128

    def test_a_film_alone(self) -> None:
        brand = box(b"ftyp", b"hevc", b"\0\0\0\0", b"msf1hevc")
        assert code_of(brand + box(b"moov", bytes(50))) == "unsupported_format"
        assert code_of(brand) == "truncated_image"
