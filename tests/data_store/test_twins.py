"""Copies and near copies among many images."""

import time

import numpy as np
import pytest

from data_store import twins

RNG = np.random.default_rng(0)


def hashes(count: int) -> np.ndarray:
    return RNG.integers(0, 1 << 64, count, dtype=np.uint64)


def thumbs(count: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, 64, 3), dtype=np.uint8)


def as_lists(groups: list[np.ndarray]) -> list[list[int]]:
    return [group.tolist() for group in groups]


def test_equal_digests_are_copies() -> None:
    digests = RNG.integers(0, 1 << 64, (8, 2), dtype=np.uint64)
    digests[5] = digests[1]
    digests[7] = digests[1]
    digests[6] = digests[0]
    digests[3, 0] = digests[2, 0]  # half of it only

    assert as_lists(twins.copies(digests)) == [[0, 6], [1, 5, 7]]
    assert twins.copies(digests[:5]) == []
    assert twins.copies(digests[:0]) == []


@pytest.mark.parametrize("flipped", [(), (0,), (5, 17), (1, 20, 40), (63, 0, 30)])
def test_hashes_that_nearly_agree_are_found_in_whatever_bits(flipped: tuple[int, ...]) -> None:
    shapes, seen = hashes(500), thumbs(500)
    shapes[400] = shapes[7] ^ np.uint64(sum(1 << bit for bit in flipped))
    seen[400] = np.clip(seen[7].astype(int) + 3, 0, 255)

    assert as_lists(twins.alike(shapes, seen)) == [[7, 400]]


def test_hashes_that_differ_more_are_not() -> None:
    shapes, seen = hashes(2), thumbs(2)
    shapes[1] = shapes[0] ^ np.uint64(0b11011)
    seen[1] = seen[0]

    assert twins.alike(shapes, seen) == []


def test_neither_are_other_colours() -> None:
    shapes, seen = hashes(2), thumbs(2)
    shapes[1] = shapes[0]
    seen[1] = seen[0][:, ::-1]

    assert twins.alike(shapes, seen) == []


def test_flat_images_are_alike_to_none() -> None:
    seen = np.full((100, 64, 3), 7, np.uint8)
    seen[:, ::8] = 200  # a thin line

    assert twins.alike(np.zeros(100, np.uint64), seen) == []


def test_groups_hold_all_that_are_alike_and_time_does_not_explode() -> None:
    """A film of one scene between other images, and as many of one colour."""
    count = 10_000
    shapes, seen = hashes(3 * count), thumbs(3 * count)
    shapes[:count], seen[:count] = 0, 9
    shapes[count : 2 * count], seen[count : 2 * count] = shapes[count], seen[count]
    began = time.process_time()

    groups = twins.alike(shapes, seen)

    assert as_lists(groups) == [list(range(count, 2 * count))]
    assert time.process_time() - began < 10  # half a second, where nobody else computes
