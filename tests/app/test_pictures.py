"""Pictures: readable PNGs of a sensible size, whatever the names, the number and the figures."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app import pictures
from app.pictures import Curve, Shown

JOB = "job_01K9ZC3V9QH5N7X1B8TDA4RWEM"
ROWS = [Curve(n, 2 / n, 2.2 / n, 1 - 0.6 / n, 1 - 0.7 / n) for n in range(1, 9)]
NO_TEST = (None, None)


def pixels(png: bytes) -> NDArray[np.uint8]:
    """(H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def has(png: bytes, colour: str) -> bool:
    """Whether a line of this colour is in it."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return bool((np.abs(pixels(png).astype(int) - wanted).sum(2) < 12).sum() > 30)


def curves(rows: list[Curve], *, name: str | None = "first", tested: tuple = NO_TEST) -> bytes:
    return pictures.curves(rows, name=name, job_id=JOB, tested=tested)


class TestCurves:
    def test_both_lines_are_there_and_the_test_part_once_it_is_measured(self) -> None:
        plain, tested = curves(ROWS), curves(ROWS, tested=(0.3, 0.9))

        assert pixels(plain).shape[:2] == (462, 1100)
        assert has(plain, pictures._TRAIN)
        assert has(plain, pictures._VAL)
        assert not has(plain, pictures._TEST)
        assert has(tested, pictures._TEST)

    def test_without_an_epoch_there_are_words(self) -> None:
        empty = curves([])

        assert not has(empty, pictures._TRAIN)
        # Grey words in the middle of either half.
        for middle in (290, 830):
            words = pixels(empty)[200:260, middle - 60 : middle + 60]
            assert ((words > 100) & (words < 160)).any()

    def test_figures_that_are_no_numbers_leave_gaps(self) -> None:
        gaps = [Curve(1, None, None, 0.1, 0.1), Curve(2, None, None, 0.1, 0.2)]
        some = [*ROWS[:3], Curve(4, None, None, 0.1, 0.1), *ROWS[4:]]

        assert has(curves(gaps), pictures._VAL)
        assert has(curves(some), pictures._TRAIN)

    def test_one_epoch_is_a_dot(self) -> None:
        assert has(curves(ROWS[:1]), pictures._VAL)

    @pytest.mark.parametrize(
        "name", ["$x_{2}^", "a" * 300, "line\nbreak", "猫 第一次", "", "\ud800"]
    )
    def test_any_name_is_taken(self, name: str) -> None:
        assert pixels(curves(ROWS, name=name)).shape[:2] == (462, 1100)

    def test_a_name_that_cannot_be_written_leaves_the_id(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pictures.fonts, "_candidates", lambda: iter(()))

        assert curves(ROWS, name="猫") == curves(ROWS, name=None)
        assert curves(ROWS, name="cat") != curves(ROWS, name=None)


class TestConfusion:
    @pytest.mark.parametrize(("classes", "side"), [(2, 3.6), (12, 5.04), (40, 14), (300, 14)])
    def test_any_number_of_classes(self, classes: int, side: float) -> None:
        counts = np.diag(np.arange(classes)) + 1

        shown = pixels(pictures.confusion(counts, [f"class {n}" for n in range(classes)], title=""))

        inches = [pixels / pictures._DOTS for pixels in shown.shape[:2]]
        assert inches == pytest.approx([side + 1.6, side + 2.4], abs=0.01)

    def test_the_colour_is_the_share_of_the_true_class(self) -> None:
        names = ["cat", "dog"]
        right = pixels(pictures.confusion(np.array([[9, 0], [0, 5]]), names, title=""))
        wrong = pixels(pictures.confusion(np.array([[0, 9], [5, 0]]), names, title=""))

        high, wide = right.shape[:2]
        first = (high // 4, wide // 3)
        assert right[first].sum() < wrong[first].sum()

    @pytest.mark.parametrize(
        "names", [["猫", "狗"], ["$\\frac{", "_^"], ["x" * 200, "y"], ["", " "]]
    )
    def test_any_names(self, names: list[str]) -> None:
        assert pictures.confusion(np.eye(2, dtype=np.int64), names, title="$").startswith(
            b"\x89PNG"
        )

    def test_a_class_without_images_is_an_empty_row(self) -> None:
        counts = np.array([[0, 0], [1, 1]])

        assert pictures.confusion(counts, ["a", "b"], title="").startswith(b"\x89PNG")


class TestMistakes:
    CLASSES = ("猫", "dog", "$")

    def shown(self, count: int, *, channels: int = 3) -> list[Shown]:
        image = np.full((8, 6, channels), 200, np.uint8)
        return [
            Shown(image if n != 1 else None, self.CLASSES[n % 3], self.CLASSES[(n + 1) % 3], 0.9)
            for n in range(count)
        ]

    @pytest.mark.parametrize(("count", "rows"), [(0, 1), (1, 1), (5, 1), (6, 2), (20, 4)])
    def test_five_in_a_row(self, count: int, rows: int) -> None:
        sheet = pixels(pictures.mistakes(self.shown(count), self.CLASSES, title="ckpt"))

        inches = [pixels / pictures._DOTS for pixels in sheet.shape[:2]]
        assert inches == pytest.approx([2.6 * rows + 0.5, 10.5], abs=0.01)
        there = count - (count > 1)
        assert (sheet == 200).all(2).sum() > 8000 * there or there == 0

    def test_grey_images_keep_their_brightness(self) -> None:
        sheet = pixels(pictures.mistakes(self.shown(1, channels=1), self.CLASSES, title="ckpt"))

        assert (sheet == 200).all(2).sum() > 5000

    def test_a_probability_that_is_none_is_left_out(self) -> None:
        one = self.shown(1)[0]._replace(probability=None)

        assert pictures.mistakes([one], self.CLASSES, title="").startswith(b"\x89PNG")


def test_threads_wait_for_each_other() -> None:
    with ThreadPoolExecutor(3) as pool:
        drawn = list(pool.map(lambda _: curves(ROWS), range(3)))

    assert len(set(drawn)) == 1
