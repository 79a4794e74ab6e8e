"""What is minimized and what is reported, held against PyTorch and scikit-learn."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from models_store import arguments
from workers import losses
from workers.losses import Loss

CHANCE = torch.Generator().manual_seed(0)
LOGITS = torch.randn(12, 4, generator=CHANCE)
LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0, 0, 1, 2])
MIXED = torch.rand(12, 4, generator=CHANCE).softmax(1)
WEIGHT = [0.5, 1.0, 2.0, 4.0]


def build(name: str = "CrossEntropyLoss", *, class_weights: Any = None, **given: Any) -> Loss:
    asked = arguments.complete("loss", name, given)
    return losses.build(asked, class_weights, LABELS, classes=4)


def own(name: str = "CrossEntropyLoss", **given: Any) -> nn.Module:
    if "weight" in given:
        given["weight"] = torch.tensor(given["weight"])
    return getattr(nn, name)(**given)


CROSS = [
    {},
    {"reduction": "sum"},
    {"label_smoothing": 0.2},
    {"weight": WEIGHT},
    {"weight": WEIGHT, "label_smoothing": 0.2},
    {"weight": WEIGHT, "reduction": "sum"},
    {"ignore_index": 2},
    {"ignore_index": 2, "weight": WEIGHT, "label_smoothing": 0.1},
]


@pytest.mark.parametrize("given", CROSS)
def test_cross_entropy_is_pytorchs(given: dict[str, Any]) -> None:
    ours = build(**given)

    assert torch.equal(ours(LOGITS, LABELS), own(**given)(LOGITS, LABELS))


def test_shares_are_counted_where_the_labels_are() -> None:
    """Which is beside the device, where the images of a GPU are."""
    elsewhere = LABELS.to("meta")

    shares = build(weight=WEIGHT).shares([elsewhere[:5], elsewhere[5:]])

    assert [one.device for one in shares] == [elsewhere.device] * 2


@pytest.mark.parametrize("given", CROSS)
def test_sums_of_batches_by_their_weights_are_the_mean_of_all(given: dict[str, Any]) -> None:
    """However many images a batch has, and whatever they weigh."""
    ours, mean = build(**given), own(**{**given, "reduction": "mean"})(LOGITS, LABELS)
    batches = list(zip(LOGITS.split(5), LABELS.split(5), strict=True))

    weight = sum(float(ours.weight(labels)) for _, labels in batches)
    evaluated = sum(float(ours.sum(logits, labels)) for logits, labels in batches)
    trained = sum(float(ours.summed(ours(logits, labels), labels)) for logits, labels in batches)

    assert evaluated / weight == pytest.approx(float(mean), rel=1e-5)
    assert trained / weight == pytest.approx(float(mean), rel=1e-5)


@pytest.mark.parametrize("name", ["L1Loss", "MSELoss"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_regression_is_to_one_hot_labels(name: str, reduction: str) -> None:
    ours, theirs = build(name, reduction=reduction), own(name, reduction=reduction)
    one_hot = nn.functional.one_hot(LABELS, 4).float()

    loss = ours(LOGITS, LABELS)

    assert torch.equal(loss, theirs(LOGITS, one_hot))
    by_image = loss * 12 if reduction == "mean" else loss
    assert float(ours.summed(loss, LABELS)) == pytest.approx(float(by_image), rel=1e-6)
    assert float(ours.sum(LOGITS, LABELS)) == pytest.approx(float(by_image), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("CrossEntropyLoss", {}),
        ("CrossEntropyLoss", {"weight": WEIGHT, "label_smoothing": 0.1}),
        ("L1Loss", {}),
        ("MSELoss", {"reduction": "sum"}),
    ],
)
def test_labels_may_be_shares(name: str, given: dict[str, Any]) -> None:
    ours = build(name, **given)

    loss = ours(LOGITS, MIXED)

    assert torch.equal(loss, own(name, **given)(LOGITS, MIXED))
    summed = loss if given.get("reduction") == "sum" else loss * 12
    assert float(ours.summed(loss, MIXED)) == pytest.approx(float(summed), rel=1e-5)
    assert float(ours.weight(MIXED)) == 12


def test_what_is_ignored_counts_nowhere() -> None:
    ours = build(ignore_index=2)
    hits = LOGITS.argmax(1) == LABELS

    assert int(ours.right(LOGITS, LABELS)) == int((hits & (LABELS != 2)).sum())
    assert int(ours.counted(LABELS).sum()) == int((LABELS != 2).sum())
    only = torch.full((12,), 2)
    assert float(ours.summed(ours(LOGITS, only), only)) == 0  # PyTorch's mean of nothing: nan


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_batch_without_weight_moves_nothing(smoothing: float) -> None:
    ours = build(class_weights=[0.0, 1.0, 2.0, 0.0], label_smoothing=smoothing)
    logits = LOGITS.clone().requires_grad_()
    weightless = torch.tensor([0, 3, 0, 0, 3, 3, 0, 0, 0, 0, 0, 3])

    loss = ours(logits, weightless)
    loss.backward()

    assert float(loss.detach()) == 0  # PyTorch's: nan
    assert torch.equal(logits.grad, torch.zeros(12, 4))
    assert float(ours.summed(loss.detach(), weightless)) == 0


def test_parts_of_a_batch_may_be_without_weight() -> None:
    ours = build(class_weights=[0.0, 1.0, 2.0, 0.0])
    order = LABELS.argsort(stable=True)  # the first five weigh nothing
    logits, labels = LOGITS[order].requires_grad_(), LABELS[order]
    own(weight=[0.0, 1.0, 2.0, 0.0])(logits, labels).backward()
    whole, logits.grad = logits.grad, None
    groups = labels.split(4)

    for part, group, share in zip(logits.split(4), groups, ours.shares(groups), strict=True):
        (ours(part, group) * share).backward()

    torch.testing.assert_close(logits.grad, whole)


def test_balanced_is_scikit_learns() -> None:
    theirs = compute_class_weight("balanced", classes=np.arange(4), y=LABELS.numpy())

    assert losses.balanced(LABELS, classes=4).tolist() == pytest.approx(theirs.tolist())
    weighed = build(class_weights="balanced")
    expected = own(weight=theirs.astype(np.float32).tolist())(LOGITS, LABELS)
    torch.testing.assert_close(weighed(LOGITS, LABELS), expected)


def test_class_weights_are_the_weight_of_the_loss() -> None:
    assert torch.equal(
        build(class_weights=WEIGHT)(LOGITS, LABELS), build(weight=WEIGHT)(LOGITS, LABELS)
    )


def test_a_loss_of_before_it_had_arguments_is_plain_cross_entropy() -> None:
    stored = losses.build({"name": "CrossEntropyLoss"}, None, LABELS, classes=4)

    assert stored.is_even
    assert torch.equal(stored(LOGITS, LABELS), nn.CrossEntropyLoss()(LOGITS, LABELS))
