"""Contact sheets: every class has its row, whatever its images and its name are like."""

import io

import numpy as np
import pytest
from PIL import Image

from app import sheets
from problems import Problem


def sheet(root, name: str, split: str = "train") -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(sheets.drawn(name, root, split))).convert("RGB"))


def save(path, colour, size=(60, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


RED, BLUE = (255, 0, 0), (0, 0, 255)


def share(pixels: np.ndarray, colour) -> int:
    return int((pixels == colour).all(axis=2).sum())


def test_images_keep_their_shape_and_small_ones_their_pixels(tmp_path):
    for number in range(20):
        save(tmp_path / "pets" / "red" / f"{number}.png", RED)
    save(tmp_path / "pets" / "黑猫 $x^2$" / "0.png", BLUE, size=(7, 7))
    (tmp_path / "pets" / "黑猫 $x^2$" / "1.png").write_bytes(b"no image")
    pixels = sheet(tmp_path, "pets")
    assert share(pixels, RED) == 8 * 72 * 48
    assert share(pixels, BLUE) == 70 * 70


def test_of_very_many_classes_the_first_are_shown(tmp_path):
    for number in range(130):
        save(tmp_path / "many" / f"{number:03}" / "0.png", RED if number < 100 else BLUE)
    pixels = sheet(tmp_path, "many")
    assert share(pixels, RED) == 100 * 72 * 48
    assert share(pixels, BLUE) == 0
    assert 0.5 < pixels.shape[0] / pixels.shape[1] < 2


def test_a_built_in_set(tmp_path):
    assert sheet(tmp_path, "digits", "test").shape[1] > 500


def test_a_part_that_is_not_there(tmp_path):
    with pytest.raises(Problem) as caught:
        sheets.drawn("digits", tmp_path, "val")
    assert caught.value.code == "not_found"
