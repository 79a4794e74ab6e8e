"""The border, what it decides, and the shape of what comes out."""

from typing import Any

import numpy as np
import pytest

import images
from images import Decoded, InvertRule

RNG = np.random.default_rng(5)


def framed(border: int, inside: int, *, height: int = 9, width: int = 7) -> np.ndarray:
    array = np.full((height, width), border, np.uint8)
    array[1:-1, 1:-1] = inside
    return array


def look(write: Any, array: np.ndarray, **options: Any) -> Decoded:
    options = {"size": None, "channels": 1, **options}
    return images.decode(write.pillow(array, "PNG"), **options)


def test_border_is_the_outermost_ring_alone(write: Any) -> None:
    decoded = look(write, framed(51, 255))
    assert decoded.border == pytest.approx(0.2)
    assert decoded.border_spread == pytest.approx(0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 2), (2, 7), (7, 2), (3, 3), (8, 9)])
@pytest.mark.parametrize("colours", [1, 3])
def test_each_pixel_of_the_ring_counts_once(
    shape: tuple[int, int], colours: int, write: Any
) -> None:
    array = RNG.integers(0, 256, (*shape, 3)[: 1 + colours // 3 + 1], dtype=np.uint8)
    mask = np.ones(shape, bool)
    mask[1:-1, 1:-1] = False
    ring = array[mask] @ [0.299, 0.587, 0.114] if colours == 3 else array[mask]
    decoded = look(write, array, channels=3)
    assert decoded.border == pytest.approx(ring.mean() / 255, abs=1e-6)
    assert decoded.border_spread == pytest.approx(ring.std() / 255, abs=1e-6)


def test_border_is_measured_after_alpha_and_before_resizing(write: Any) -> None:
    clear = np.dstack([framed(0, 0)] * 3 + [framed(0, 255)])
    decoded = look(write, clear, size=(2, 2))
    assert decoded.border == pytest.approx(1)
    assert decoded.pixels.mean() < 200


@pytest.mark.parametrize(
    ("border", "rule", "inverted"),
    [(255, 0.0, True), (0, 1.0, True), (0, 0.0, False), (127, 0.0, False), (128, 0.0, True),
     (255, 0.6, False), (200, 0.25, True)],
)  # fmt: skip
def test_negatives_are_told_by_their_border(
    border: int, rule: float, inverted: bool, write: Any
) -> None:
    array = framed(border, 30)
    decoded = look(write, array, invert=InvertRule(border=rule))
    assert decoded.inverted is inverted
    np.testing.assert_array_equal(decoded.pixels[:, :, 0], 255 - array if inverted else array)
    assert decoded.border == pytest.approx(border / 255)  # as it was, so that it can be reported


def test_without_a_rule_nothing_is_inverted(write: Any) -> None:
    assert not look(write, framed(255, 0)).inverted


@pytest.mark.parametrize("channels", [1, 3])
def test_a_negative_of_a_negative_is_the_image(channels: int, write: Any) -> None:
    array = np.pad(RNG.integers(0, 256, (20, 20), dtype=np.uint8), 4)
    options: dict[str, Any] = {"size": (12, 12), "channels": channels}
    upright = look(write, array, invert=InvertRule(border=0.01), **options)
    negative = look(write, 255 - array, invert=InvertRule(border=0.01), **options)
    assert (upright.inverted, negative.inverted) == (False, True)
    np.testing.assert_array_equal(upright.pixels, negative.pixels)


def test_border_of_an_array() -> None:
    mean, spread = images.border(framed(102, 0)[:, :, None])
    assert (mean, spread) == (pytest.approx(0.4), pytest.approx(0))
    striped = np.zeros((2, 2, 3), np.uint8)
    striped[0] = 255
    assert images.border(striped) == (pytest.approx(0.5), pytest.approx(0.5))


def test_small_images_grow(write: Any) -> None:
    decoded = look(write, framed(10, 20), size=(64, 32), channels=3)
    assert decoded.pixels.shape == (64, 32, 3)
    assert (decoded.height, decoded.width) == (9, 7)
    assert decoded.pixels.flags.c_contiguous
