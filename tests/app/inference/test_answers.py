"""Labels, the best few classes, the threshold, and the form of what is written."""

import json

import numpy as np
import pytest

from app.inference.answers import Wanted, answers
from app.predictions import PredictionRead, RefusedRead
from models_store.classifier import Classified
from problems import Problem

CLASSES = ["cat", "dog", "owl"]


def classified(values, *warnings):
    return Classified(np.array(values, np.float64), warnings)


def answer(values, *, top_k=5, threshold=0.0, warnings=(), classes=CLASSES):
    wanted = Wanted(top_k, threshold, None)
    [found] = json.loads(
        answers(wanted, classes, ["a.png"], [classified(values, *warnings)], [None])
    )
    PredictionRead.model_validate(found, strict=True)
    assert set(found) == set(PredictionRead.model_fields)
    return found


def test_the_most_probable_comes_first():
    found = answer([0.2, 0.7, 0.1], warnings=["inverted"])
    assert (found["label"], found["index"]) == ("dog", 1)
    assert found["probability"] == pytest.approx(0.7)
    assert [guess["label"] for guess in found["top"]] == ["dog", "cat", "owl"]
    assert (found["filename"], found["warnings"]) == ("a.png", ["inverted"])


def test_at_most_so_many_guesses_as_asked_for():
    assert len(answer([0.2, 0.7, 0.1], top_k=2)["top"]) == 2


def test_of_equal_classes_the_earlier_comes_first():
    assert [guess["index"] for guess in answer([0.25, 0.5, 0.25])["top"]] == [1, 0, 2]
    assert [guess["index"] for guess in answer([0.25, 0.5, 0.25], top_k=2)["top"]] == [1, 0]


@pytest.mark.parametrize("top_k", [1, 5, 999, 1000])
def test_a_thousand_classes_many_of_them_equal(top_k):
    values = np.random.default_rng(0).integers(0, 50, 1000) / 25_000
    named = [f"n{index}" for index in range(1000)]
    found = [guess["index"] for guess in answer(values, top_k=top_k, classes=named)["top"]]
    assert found == sorted(range(1000), key=lambda index: (-values[index], index))[:top_k]


def test_below_the_threshold_the_best_guess_is_kept_and_called_unknown():
    found = answer([0.2, 0.7, 0.1], threshold=0.71)
    assert (found["label"], found["unknown"]) == ("dog", True)
    assert answer([0.2, 0.7, 0.1], threshold=0.69)["unknown"] is False


@pytest.mark.parametrize("count", [3, 1000])
def test_a_network_whose_weights_are_no_numbers_answers_null(count):
    named = [f"n{index}" for index in range(count)]
    found = answer([np.nan] * count, classes=named)
    assert (found["probability"], found["label"]) == (None, "n0")


def test_names_of_all_kinds_are_written():
    found = answer([0.2, 0.7, 0.1], classes=['a "b"\n', "猫\0", "🦉"], top_k=3)
    assert [guess["label"] for guess in found["top"]] == ["猫\0", 'a "b"\n', "🦉"]


def test_refused_files_keep_their_place_among_pictures():
    found = json.loads(
        answers(
            Wanted(1, 0, "input"),
            CLASSES,
            ["a.txt", None],
            [Problem("not_an_image", "no"), classified([0.2, 0.7, 0.1])],
            [None, b"png"],
        )
    )
    refused, shown = RefusedRead.model_validate(found[0]), PredictionRead.model_validate(found[1])
    assert (refused.filename, refused.error.code, refused.error.message) == (
        *("a.txt", "not_an_image", "no"),
    )
    assert refused.error.hint
    assert (shown.filename, shown.explanation.method) == (None, "input")
    assert shown.explanation.png_base64 == "cG5n"
