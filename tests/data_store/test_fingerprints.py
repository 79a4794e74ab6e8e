"""What an image looks like in a few numbers."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from data_store import fingerprints
from data_store.fingerprints import Fingerprint
from images import opening

SIZES = ((64, 48), (900, 700))  # the larger is decoded at a fraction of its size


def picture(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Something with large shapes, as photos have."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def taken(image: Image.Image, format: str = "PNG", **how: Any) -> Fingerprint:
    file = io.BytesIO()
    image.save(file, format, **how)
    opened = opening.read(file.getvalue(), at_least=fingerprints.AT_LEAST)
    return fingerprints.take(opened, file.getvalue())


def bits(one: Fingerprint, other: Fingerprint) -> int:
    return (one.shape ^ other.shape).bit_count()


def test_the_shape_is_of_low_frequencies() -> None:
    image = picture(0, (32, 32)).convert("L")
    low = dctn(np.asarray(image, float))[1:9, 1:9].ravel()
    expected = sum(1 << int(bit) for bit in np.flatnonzero(low > np.median(low)))

    assert taken(image).shape == expected


@pytest.mark.parametrize("size", SIZES)
def test_copies_that_were_saved_again_look_alike(size: tuple[int, int]) -> None:
    image = picture(1, size)
    original = taken(image, "JPEG", quality=95)
    half = image.resize((size[0] // 2, size[1] // 2))
    for copy in (taken(image), taken(image, "JPEG", quality=80), taken(half, "PNG")):
        assert bits(original, copy) <= 3
        apart = np.frombuffer(original.thumb, np.uint8).astype(int)
        assert np.abs(apart - np.frombuffer(copy.thumb, np.uint8)).mean() < 6
        assert copy.digest != original.digest


def test_other_pictures_do_not() -> None:
    some = [taken(picture(seed)) for seed in range(20)]
    assert min(bits(a, b) for a in some for b in some if a is not b) > 8


def test_equal_pixels_have_equal_digests_whatever_the_file() -> None:
    image = picture(2)
    assert taken(image).digest == taken(image, "BMP").digest == taken(image, "TIFF").digest
    assert taken(image).digest != taken(image.transpose(Image.Transpose.ROTATE_180)).digest
    assert taken(image.crop((0, 0, 48, 64))).digest != taken(image.crop((0, 0, 64, 48))).digest


def test_of_what_is_not_decoded_as_a_whole_the_file_counts() -> None:
    image = picture(3, (900, 700))
    assert taken(image, "JPEG").digest == taken(image, "JPEG").digest
    assert taken(image, "JPEG").digest != taken(image, "JPEG", comment=b"again").digest


def test_an_image_is_upright() -> None:
    image, exif = picture(4), Image.Exif()
    exif[0x0112] = 3
    turned = taken(image.transpose(Image.Transpose.ROTATE_180), "PNG", exif=exif)
    assert turned.shape == taken(image).shape
    assert turned.thumb == taken(image).thumb
