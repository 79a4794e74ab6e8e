"""Files, read and decoded."""

import pickle
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

import images
from data_store import reading
from data_store.parts import Sums

Write = Callable[[dict[str, bytes]], Path]
SIZE = {"size": (4, 6), "channels": 3}


@pytest.fixture
def files(write: Write, png) -> dict[str, bytes]:
    data = {"1.png": png(1, (9, 5)), "2.png": b"junk", "3.png": png(3, (6, 4))}
    root = write(data)
    return {str(root / name): each for name, each in data.items()} | {str(root / "gone.png"): b""}


def test_a_block_is_of_what_can_be_read(files: dict[str, bytes]) -> None:
    block = pickle.loads(pickle.dumps(reading.read(list(files), **SIZE)))
    good = [images.decode(each, **SIZE) for each in files.values() if each.startswith(b"\x89")]
    np.testing.assert_array_equal(block.pixels, [each.pixels for each in good])
    np.testing.assert_allclose(block.borders, [each.border for each in good])
    assert block.sums == Sums.of(block.pixels)
    assert block.digests == [sha256(each).digest() for each in files.values()]
    assert {place: code for place, (code, _) in block.bad.items()} == dict.fromkeys(
        (1, 3), "not_an_image"
    )
    assert block.refused == {3}, "only that one may be there another time"
    without = reading.read(list(files), **SIZE, keeps_pixels=False)
    assert (without.pixels.shape, without.sums) == ((0, 4, 6, 3), block.sums)


def test_a_file_that_ends_its_process_is_bad() -> None:
    block = reading.lost("1.png", **SIZE)
    assert (block.pixels.shape, block.bad[0][0], len(block.digests)) == (
        (0, 4, 6, 3),
        "not_an_image",
        1,
    )
    assert block.refused == {0}
    assert not reading.lost("1.png", **SIZE, again=True).refused


@pytest.mark.parametrize("keeps_pixels", [True, False])
def test_another_try_takes_its_place_in_a_block(
    files: dict[str, bytes], write: Write, png, keeps_pixels: bool
) -> None:
    paths = [list(files)[each] for each in (3, 0, 3, 1, 2)]
    block = reading.read(paths, **SIZE, keeps_pixels=keeps_pixels)
    assert block.retried(2, reading.read(paths[2:3], **SIZE)).refused == {0, 2}
    write({"gone.png": png(7, (5, 5))})
    for place in (2, 0):
        again = reading.read(paths[place : place + 1], **SIZE, keeps_pixels=keeps_pixels)
        block = block.retried(place, again)
    expected = reading.read(paths, **SIZE, keeps_pixels=keeps_pixels)
    for array in ("pixels", "borders", "spreads"):
        np.testing.assert_array_equal(getattr(block, array), getattr(expected, array))
    for same in ("sums", "digests", "bad", "refused"):
        assert getattr(block, same) == getattr(expected, same)
    assert not block.retried(3, reading.lost(paths[3], **SIZE, again=True)).refused


def test_pixels_alone(files: dict[str, bytes]) -> None:
    found = reading.pixels(list(files), **SIZE)
    expected = reading.read(list(files), **SIZE).pixels
    np.testing.assert_array_equal(found.pixels[[0, 2]], expected)
    assert list(found.bad) == [1, 3]
    assert "No such file" in found.bad[3]


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_of_a_file_of_images(tmp_path: Path, channels: int) -> None:
    held = np.random.default_rng(0).integers(0, 256, (9, 4, 6, channels)).astype(np.uint8)
    path = str(tmp_path / "images.npy")
    np.save(path, held)
    places = [(path, row) for row in (8, 0, 3)]
    same = reading.rows(places, size=(4, 6), channels=channels)
    np.testing.assert_array_equal(same.pixels, held[[8, 0, 3]])
    larger = reading.rows(places, size=(7, 9), channels=3)
    np.testing.assert_array_equal(larger.pixels[1], images.resize(held[0], (7, 9), 3))
