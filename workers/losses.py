"""What is minimized, and what of it is reported: the mean per image.

Arguments were checked by `models_store.arguments`; knows nothing of networks and optimizers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from models_store.losses import NO_LABEL

Targets = torch.Tensor  # labels (N,), or what transforms made of them: shares (N, classes)


class Loss:
    """A loss of PyTorch's. Called with logits (N, classes) and targets it gives what to minimize.

    L1Loss and MSELoss take labels as one-hot rows. Images that all weigh nothing have a mean of 0,
    and gradients of 0, where PyTorch's are no numbers: they may be a part of a batch.
    """

    def __init__(self, name: str = "CrossEntropyLoss", **arguments: Any) -> None:
        reduction = arguments.pop("reduction", "mean")
        kind = getattr(nn, name)
        self._minimized = kind(reduction=reduction, **arguments)
        self._summed = kind(reduction="sum", **arguments)
        self._on_shares = name != "CrossEntropyLoss"
        self.is_mean = reduction == "mean"
        self._weight: torch.Tensor | None = arguments.get("weight")
        self._ignored: int = arguments.get("ignore_index", NO_LABEL)
        self._may_weigh_nothing = (
            self.is_mean and self._weight is not None and not bool(self._weight.all())
        )
        # Whether every image counts as much as any other.
        self.is_even = self._weight is None and self._ignored == NO_LABEL

    def __call__(self, logits: torch.Tensor, targets: Targets) -> torch.Tensor:
        if self._may_weigh_nothing and targets.ndim == 1:
            weight = self.weight(targets)
            mean = self._summed(logits, targets) / weight.clamp(min=torch.finfo().tiny)
            return torch.where(weight > 0, mean, 0.0)
        loss: torch.Tensor = self._minimized(logits, self._taken(logits, targets))
        return loss

    def sum(self, logits: torch.Tensor, targets: Targets) -> torch.Tensor:
        """The losses of all images together; divided by their `weight` it is the mean."""
        total: torch.Tensor = self._summed(logits, self._taken(logits, targets))
        return total / logits.shape[1] if self._on_shares and self.is_mean else total

    def summed(self, loss: torch.Tensor, targets: Targets) -> torch.Tensor:
        """The same, from what calling it has given for these targets."""
        if not self.is_mean:
            return loss
        if self.is_even:
            return loss * len(targets)
        weight = self.weight(targets)
        return torch.where(weight > 0, loss * weight, 0.0)  # PyTorch's mean of nothing is no number

    def weight(self, targets: Targets) -> torch.Tensor:
        """What PyTorch divides their sum by: how many they are, or the sum of their weights."""
        return self.weights(targets).sum()

    def weights(self, targets: Targets) -> torch.Tensor:
        """What each image counts (N,)."""
        counted = self.counted(targets)
        if self._weight is None or targets.ndim > 1:
            return counted
        return self._weight.to(targets.device)[targets] * counted

    def shares(
        self, groups: Sequence[Targets], *, mixed: bool = False
    ) -> Sequence[float | torch.Tensor | None]:
        """What the loss of each group counts for, so that their gradients add up to those of all
        as one batch; None: it counts as it is. Images that are `mixed` all count alike.
        """
        if not self.is_mean:
            return [None] * len(groups)
        if self.is_even or mixed:  # of mixed labels PyTorch's mean is over images
            return [len(group) / sum(map(len, groups)) for group in groups]
        weights = torch.stack([self.weight(group) for group in groups]).float()
        return list((weights / weights.sum().clamp(min=torch.finfo().tiny)).unbind())

    def constants(self) -> list[torch.Tensor]:
        """What it computes with beside logits and targets: the weights of classes."""
        return list(self._minimized.buffers())

    def counted(self, targets: Targets) -> torch.Tensor:
        """Mask (N,) of the images that are not ignored."""
        if targets.ndim > 1:
            return torch.ones(len(targets), dtype=torch.bool, device=targets.device)
        return targets != self._ignored

    def right(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """How many that count are classified as their labels (N,) say."""
        hits = logits.argmax(1) == labels
        return (hits if self.is_even else hits & self.counted(labels)).sum()

    def _taken(self, logits: torch.Tensor, targets: Targets) -> torch.Tensor:
        if self._on_shares and targets.ndim == 1:
            return functional.one_hot(targets, logits.shape[1]).to(logits.dtype)
        return targets


def build(
    chosen: Mapping[str, Any],
    class_weights: str | Sequence[float] | None,
    labels: torch.Tensor,
    *,
    classes: int,
) -> Loss:
    """The loss of a recipe for training images of these labels (N,), on their device."""
    arguments = dict(chosen)
    weight = class_weights if class_weights is not None else arguments.get("weight")
    if weight == "balanced":
        arguments["weight"] = balanced(labels, classes=classes)
    elif weight is not None:
        arguments["weight"] = torch.tensor(weight, dtype=torch.float32, device=labels.device)
    return Loss(**arguments)


def balanced(labels: torch.Tensor, *, classes: int) -> torch.Tensor:
    """A weight for each class (classes,): N / (classes * count), as scikit-learn's `balanced`."""
    counts = torch.bincount(labels, minlength=classes).clamp(min=1)
    return (len(labels) / (classes * counts.double())).float()
