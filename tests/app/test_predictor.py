"""Classifiers are loaded once, kept while they are used, and let go."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.predictor import Predictor
from problems import Problem


def test_a_classifier_is_loaded_once_however_many_ask(settings, train):
    made = train(settings)
    predictor = Predictor(settings.checkpoints, device="cpu")
    together = threading.Barrier(8)

    def ask(_number: int) -> object:
        together.wait()
        return predictor.classifier(made.best)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert len({id(one) for one in found}) == 1


def test_the_least_recently_used_is_let_go(settings, train):
    first, second, third = train(settings, epochs=3).checkpoint_ids
    predictor = Predictor(settings.checkpoints, device="cpu", kept=2)
    for checkpoint_id in (first, second, first, third):
        predictor.classifier(checkpoint_id)
    assert predictor.warm() == [first, third]


def test_a_forgotten_classifier_is_loaded_again(settings, train):
    made = train(settings, epochs=1)
    predictor = Predictor(settings.checkpoints, device="cpu")
    before = predictor.classifier(made.best)
    predictor.forget(made.best)
    predictor.forget(made.best)
    assert predictor.warm() == []
    assert predictor.classifier(made.best) is not before


def test_what_cannot_be_loaded_is_tried_again(settings, train):
    made = train(settings, epochs=1)
    folder = settings.checkpoints / made.best
    away = folder.rename(folder.with_name("away"))
    predictor = Predictor(settings.checkpoints, device="cpu")
    with pytest.raises(Problem, match="not there"):
        predictor.classifier(made.best)
    assert predictor.warm() == []
    away.rename(folder)
    assert predictor.classifier(made.best).manifest.id == made.best
