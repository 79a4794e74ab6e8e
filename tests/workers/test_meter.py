"""Means over images, however they come; what a training measures is in test_training."""

import math

import pytest
import torch
from torch.nn import functional

from workers.losses import Loss
from workers.meter import Meter, Metrics

CPU = torch.device("cpu")
LOGITS = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 1])


def measured(loss: Loss, *parts: slice) -> Meter:
    meter = Meter(loss, CPU)
    for part in parts:
        meter.count(loss.sum(LOGITS[part], LABELS[part]), LOGITS[part], LABELS[part], LABELS[part])
    return meter


def test_the_mean_is_per_image() -> None:
    meter = measured(Loss(), slice(0, 7), slice(7, 9))

    hits = (LOGITS.argmax(1) == LABELS).float().mean()
    expected = float(functional.cross_entropy(LOGITS, LABELS)), float(hits)
    found = meter.means()
    assert (found.loss, found.accuracy) == pytest.approx(expected, rel=1e-6)
    assert meter.images == 9


def test_a_look_measures_since_the_look_before() -> None:
    meter = measured(Loss(), slice(0, 4))
    meter.read()
    right = LOGITS[:2].argmax(1)
    meter.count(torch.tensor(6.0), LOGITS[:2], right, right)

    fresh, speed = meter.read()

    assert fresh == Metrics(3.0, 1.0)
    assert speed > 0


def test_ignored_images_are_not_among_them() -> None:
    loss = Loss(ignore_index=1)
    kept = LABELS != 1

    found = measured(loss, slice(0, 5), slice(5, 9)).means()

    assert found.loss == pytest.approx(
        float(functional.cross_entropy(LOGITS[kept], LABELS[kept])), rel=1e-6
    )
    hits = (LOGITS[kept].argmax(1) == LABELS[kept]).float().mean()
    assert found.accuracy == pytest.approx(float(hits), rel=1e-6)


def test_of_nothing_there_is_no_loss() -> None:
    found = measured(Loss(ignore_index=1), slice(7, 9)).means()

    assert math.isnan(found.loss)
    assert found.accuracy == 0


def test_metrics_have_the_names_of_recipes() -> None:
    assert Metrics(0.5, 0.9).of_validation() == {"val_loss": 0.5, "val_accuracy": 0.9}
