"""Records do not change once made."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from data_store.parts import Part, Skipped, Sums


def test_records_are_frozen() -> None:
    skipped = Skipped("cat/1.png", "truncated_image", "cut off", "train", 0)
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


def mapped(folder: Path, images: NDArray[np.uint8]) -> Part:
    np.save(folder / "images.npy", images)
    zeros = np.zeros(len(images), np.float32)
    held = np.load(folder / "images.npy", mmap_mode="c")
    return Part(held, np.zeros(len(images), np.int64), zeros, zeros)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_pages_that_rest_are_given_back_and_come_again(tmp_path: Path) -> None:
    part = mapped(tmp_path, np.full((70, 1000, 1000, 1), 7, np.uint8))
    assert part.is_mapped
    assert int(part.images.sum()) == 7 * 70_000_000
    before = resident(tmp_path / "images.npy")

    part.rest()

    assert resident(tmp_path / "images.npy") < 10_000_000 < before
    assert int(part.images[::7].sum()) == 7 * 10_000_000


def test_who_is_small_or_held_otherwise_rests_as_it_is(tmp_path: Path) -> None:
    small = mapped(tmp_path, np.ones((2, 3, 3, 1), np.uint8))
    small.rest()
    held = dataclasses.replace(small, images=np.ones((2, 3, 3, 1), np.uint8))
    held.rest()

    assert small.is_mapped
    assert not held.is_mapped
    assert np.array_equal(small.images, held.images)


def resident(file: Path) -> int:
    """Bytes of a mapped file that are in this process's memory."""
    maps = Path("/proc/self/smaps").read_text().partition(f" {file}\n")[2]
    return 1024 * int(maps.partition("Rss:")[2].split()[0])
