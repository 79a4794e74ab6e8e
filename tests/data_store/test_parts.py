"""Records do not change once made."""

import dataclasses

import numpy as np
import pytest

from data_store.parts import Skipped, Sums


def test_records_are_frozen() -> None:
    skipped = Skipped("cat/1.png", "truncated_image", "cut off")
    with pytest.raises(dataclasses.FrozenInstanceError):
        skipped.file = "cat/2.png"


@pytest.mark.parametrize("channels", [1, 3])
def test_sums_are_exact_whatever_they_are_taken_of(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (700, 5, 4, channels)).astype(np.uint8)
    pixels[:600, 0] = 255  # more than float32 could count, if they were all added up at once
    exact = pixels.astype(np.int64)
    sums = Sums.of(pixels)
    assert sums.count == 700 * 5 * 4
    assert sums.totals == tuple(exact.sum(axis=(0, 1, 2)))
    assert sums.squares == tuple((exact**2).sum(axis=(0, 1, 2)))
    assert Sums.of(pixels[:1]) + Sums.of(pixels[1:300]) + Sums.of(pixels[300:]) == sums
    assert sums + Sums.of(pixels[:0]) == sums
