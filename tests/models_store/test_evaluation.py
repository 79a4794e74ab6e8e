"""Figures of a report, held against scikit-learn, torch and the definitions."""

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn import metrics
from torch.nn import functional

from models_store import evaluation
from models_store.evaluation import Outputs, Tally

Logits = NDArray[np.float32]
Labels = NDArray[np.int64]


def made(
    images: int = 3000, classes: int = 10, *, sure: float = 4.0, seed: int = 0
) -> tuple[Logits, Labels]:
    """Outputs of a network that is right about two thirds of the time, and surer than that."""
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, classes, images)
    logits = chance.normal(size=(images, classes))
    logits[np.arange(images), labels] += 2
    return (logits * sure).astype(np.float32), labels


def tally(logits: Logits, labels: Labels, *, temperature: float | None = 1.0) -> Tally:
    """In batches of different sizes."""
    found = Tally(logits.shape[1], temperature)
    for rows in np.array_split(np.arange(len(labels)), 7):
        found.add(logits[rows], labels[rows])
    return found


def names(classes: int) -> list[str]:
    return [f"class {number}" for number in range(classes)]


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_the_figures_are_those_of_scikit_learn(classes: int) -> None:
    logits, labels = made(classes=classes)
    found = tally(logits, labels)
    predicted = logits.argmax(1)

    confusion = found.confusion()
    report, averages = evaluation.per_class(confusion, names(classes))

    expected = metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(classes), zero_division=np.nan
    )
    for title, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        ours = [getattr(one, title) for one in report]
        np.testing.assert_allclose(np.array(ours, float), values, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(
        confusion, metrics.confusion_matrix(labels, predicted, labels=range(classes))
    )
    assert found.accuracy() == pytest.approx(metrics.accuracy_score(labels, predicted), abs=1e-12)
    assert averages.f1 == pytest.approx(
        metrics.f1_score(labels, predicted, average="macro", zero_division=np.nan), abs=1e-12
    )
    if classes > 5:
        top5 = metrics.top_k_accuracy_score(labels, logits, k=5, labels=range(classes))
        assert found.top5_accuracy() == pytest.approx(top5, abs=1e-12)
    else:
        assert found.top5_accuracy() is None


def test_a_class_without_images_or_predictions_has_no_figures() -> None:
    confusion = np.array([[3, 1, 0], [0, 0, 0], [0, 0, 0]])

    report, averages = evaluation.per_class(confusion, ["a", "b", "c"])

    figures = [(one.precision, one.recall, one.f1, one.support) for one in report]
    assert figures == [(1.0, 0.75, 6 / 7, 4), (0.0, None, 0.0, 0), (None, None, None, 0)]
    assert (averages.precision, averages.recall) == (0.5, 0.75)


def test_of_equal_outputs_the_first_five_are_the_earlier_classes() -> None:
    logits = np.zeros((7, 7), np.float32)

    assert tally(logits, np.arange(7)).top5_accuracy() == pytest.approx(5 / 7)


@pytest.mark.parametrize("sure", [0.2, 1.0, 4.0, 1e4])
def test_the_temperature_is_the_most_likely_one(sure: float) -> None:
    logits, labels = made(sure=sure)

    fitted = evaluation.fit_temperature(logits, labels)

    assert fitted is not None
    exact, truth = torch.from_numpy(logits).double(), torch.from_numpy(labels)
    inverse = torch.tensor(1 / fitted, dtype=torch.double, requires_grad=True)
    loss = functional.cross_entropy(exact * inverse, truth)
    (slope,) = torch.autograd.grad(loss, inverse)
    assert abs(float(slope)) < 1e-9 * sure
    for other in (fitted * 1.01, fitted / 1.01):
        assert float(functional.cross_entropy(exact / other, truth)) > float(loss.detach())


def test_one_that_makes_hardly_any_mistakes_is_not_made_surer() -> None:
    logits, labels = made(sure=0.5)
    right = logits.argmax(1) == labels

    assert evaluation.fit_temperature(logits[right], labels[right]) == 1.0


def test_a_few_images_say_nothing() -> None:
    logits, labels = made(images=29)

    assert evaluation.fit_temperature(logits, labels) == 1.0


def test_one_confident_mistake_makes_it_less_sure() -> None:
    logits = np.tile(np.array([[50.0, 0.0]], np.float32), (30, 1))

    fitted = evaluation.fit_temperature(logits, np.array([0] * 29 + [1]))

    assert fitted is not None
    assert 1 / (1 + np.exp(-50 / fitted)) == pytest.approx(29 / 30)


def test_outputs_that_say_nothing_are_made_as_unsure_as_can_be() -> None:
    chance = np.random.default_rng(0)
    logits = (chance.normal(size=(500, 4)) * 1e5).astype(np.float32)
    logits[np.arange(500), labels := chance.integers(0, 4, 500)] -= 1e5

    fitted = evaluation.fit_temperature(logits, labels)

    assert fitted is not None
    assert fitted > 1e5


def test_outputs_that_are_not_finite_have_no_calibration() -> None:
    logits, labels = made(images=40)
    logits[3, 2] = np.nan

    assert evaluation.fit_temperature(logits, labels) is None
    found = tally(logits, labels, temperature=None)
    assert found.calibration(fitted_count=40) is None
    assert 0 < found.accuracy() < 1
    assert len(found.mistakes()) <= evaluation.MISTAKES


def test_of_a_large_part_some_images_are_fitted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "_KEPT", 10_000)
    logits, labels = made()
    outputs = Outputs(*logits.shape)
    for rows in np.array_split(np.arange(len(labels)), 11):
        outputs.add(logits[rows], labels[rows])

    fitted, count = outputs.temperature()

    assert count == 1000
    assert fitted == evaluation.fit_temperature(logits[::3], labels[::3])
    assert fitted == pytest.approx(evaluation.fit_temperature(logits, labels), rel=0.1)


def test_the_error_of_calibration_is_as_defined() -> None:
    logits, labels = made()
    calibration = tally(logits, labels, temperature=3.0).calibration(fitted_count=1)

    assert calibration is not None
    for temperature, error, nll in (
        (1.0, calibration.ece_before, calibration.nll_before),
        (3.0, calibration.ece_after, calibration.nll_after),
    ):
        exact = torch.from_numpy(logits).double() / temperature
        sure, predicted = exact.softmax(1).max(1)
        right = predicted == torch.from_numpy(labels)
        expected = 0.0
        edges = torch.linspace(0, 1, 16, dtype=torch.double)
        for low, high in itertools.pairwise(edges):
            inside = (sure > low) & (sure <= high)
            if inside.any():
                gap = (right[inside].double().mean() - sure[inside].mean()).abs()
                expected += float(gap * inside.double().mean())
        assert error == pytest.approx(expected, abs=1e-12)
        expected_nll = functional.cross_entropy(exact, torch.from_numpy(labels))
        assert nll == pytest.approx(float(expected_nll), abs=1e-12)
    assert sum(one.count for one in calibration.bins_after) == len(labels)


def test_the_fitted_temperature_makes_other_images_better_calibrated() -> None:
    logits, labels = made(images=2000)
    fitted = evaluation.fit_temperature(logits[:1000], labels[:1000])

    calibration = tally(logits[1000:], labels[1000:], temperature=fitted).calibration(
        fitted_count=1000
    )

    assert calibration is not None
    assert calibration.ece_after < calibration.ece_before / 3
    assert calibration.nll_after < calibration.nll_before


def test_the_surest_mistakes_come_first() -> None:
    logits, labels = made(images=400)
    found = tally(logits, labels, temperature=2.0)

    places = found.mistakes()

    wrong = np.flatnonzero(logits.argmax(1) != labels)
    sure = torch.from_numpy(logits).double().div(2).softmax(1).max(1).values.numpy()
    expected = sorted(wrong, key=lambda one: -sure[one])[: evaluation.MISTAKES]
    assert places.tolist() == expected
    np.testing.assert_allclose(found.confidence, sure, atol=1e-12)
