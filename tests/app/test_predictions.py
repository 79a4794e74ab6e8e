"""The form of answers: what `app.inference.answers` writes is of it (test_answers), and no less."""

import pytest
from pydantic import ValidationError

from app import examples
from app.predictions import AnswerRead, PredictionRead, RefusedRead


def test_a_file_was_classified_or_refused():
    error = {"code": "not_an_image", "message": "no", "hint": None}
    refused = {"filename": "a.txt", "error": error}
    said = AnswerRead.model_validate({**examples.ANSWER, "predictions": [refused]})
    assert isinstance(said.predictions[0], RefusedRead)
    said = AnswerRead.model_validate(examples.ANSWER)
    assert isinstance(said.predictions[0], PredictionRead)


def test_an_answer_says_whether_it_was_sure_enough():
    [one, *_] = examples.ANSWER["predictions"]
    with pytest.raises(ValidationError):
        PredictionRead.model_validate({k: v for k, v in one.items() if k != "unknown"})
