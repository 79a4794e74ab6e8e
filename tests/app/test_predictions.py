"""Labels, the best few classes and the threshold."""

import numpy as np
import pytest

from app import predictions
from models_store.classifier import Classified
from problems import Problem

CLASSES = ["cat", "dog", "owl"]


def answer(values, *, top_k=5, threshold=0.0, warnings=()):
    found = Classified(np.array(values, np.float32), tuple(warnings))
    return predictions.answer(
        "a.png", found, classes=CLASSES, top_k=top_k, threshold=threshold
    ).model_dump()


def test_the_most_probable_comes_first():
    found = answer([0.2, 0.7, 0.1], warnings=["inverted"])
    assert (found["label"], found["index"]) == ("dog", 1)
    assert found["probability"] == pytest.approx(0.7)
    assert [guess["label"] for guess in found["top"]] == ["dog", "cat", "owl"]
    assert found["warnings"] == ["inverted"]


def test_at_most_so_many_guesses_as_asked_for():
    assert len(answer([0.2, 0.7, 0.1], top_k=2)["top"]) == 2


def test_of_equal_classes_the_earlier_comes_first():
    assert [guess["index"] for guess in answer([0.25, 0.5, 0.25])["top"]] == [1, 0, 2]


def test_below_the_threshold_the_best_guess_is_kept_and_called_unknown():
    found = answer([0.2, 0.7, 0.1], threshold=0.71)
    assert (found["label"], found["unknown"]) == ("dog", True)
    assert answer([0.2, 0.7, 0.1], threshold=0.69)["unknown"] is False


def test_a_network_whose_weights_are_no_numbers_answers_null():
    found = answer([np.nan] * 3)
    assert found["probability"] is None
    assert found["label"] == "cat"


def test_a_file_that_was_refused():
    refused = predictions.answer(
        "a.txt", Problem("not_an_image", "no"), classes=CLASSES, top_k=1, threshold=0
    )
    assert refused.model_dump()["error"]["code"] == "not_an_image"
