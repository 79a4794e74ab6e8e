"""What is asked, as the server says it, and how it is answered."""

import json

import numpy as np
import pytest

from app.inference.questions import Model, answered, as_said, question
from models_store.classifier import Classified, Classifier
from problems import Problem

SAID = {
    "number": 7,
    "checkpoint": "ckpt_1",
    "filenames": ["a.png", None, "c.png"],
    "sizes": [2, {"code": "image_too_large", "message": "It is.", "hint": "Send less."}, 3],
    "top_k": 2,
    "threshold": 0.5,
    "explain": None,
    "alone": False,
    "idle": True,
}


@pytest.fixture
def classifier(settings, train) -> Classifier:
    made = train(settings, epochs=1)
    return Classifier.load(settings.checkpoints / made.best)


def test_images_are_taken_apart_again(classifier):
    model = Model(classifier, largest=8, threads=1)
    asked = question(SAID, b"aaccc", model)
    first, refused, third = asked.images
    assert (first, third) == (b"aa", b"ccc")
    assert isinstance(refused, Problem)
    assert (refused.code, refused.detail, refused.hint) == (
        "image_too_large",
        "It is.",
        "Send less.",
    )
    assert (asked.number, asked.model, asked.idle, asked.wanted.top_k) == (7, model, True, 2)


def test_each_image_has_its_answer_in_its_place(classifier):
    asked = question(SAID, b"aaccc", None)
    found = Classified(np.eye(10)[3], ())
    said, data = answered(classifier, asked, [found, asked.images[1], found])
    assert said == {}
    first, refused, third = json.loads(data)
    assert (first["filename"], first["label"], len(first["top"])) == ("a.png", "3", 2)
    assert refused["error"]["code"] == "image_too_large"
    assert third["filename"] == "c.png"


def test_of_a_single_image_an_error_is_that_of_all(classifier):
    asked = question({**SAID, "filenames": [None], "sizes": [2]}, b"aa", None)
    problem = Problem("not_an_image", "It is none.")
    said, data = answered(classifier, asked, [problem])
    assert (said, data) == ({"problem": as_said(problem)}, b"")
    assert as_said(problem)["code"] == "not_an_image"
