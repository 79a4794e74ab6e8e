"""What a training measures on its way: losses, right answers and time.

Knows nothing of networks; the device is only waited for when somebody reads.
"""

import math
import time
from dataclasses import dataclass

import torch

from workers.group import Group
from workers.losses import Loss

TICK_SECONDS = 1.0  # a tick costs some 7 ms of the epoch, in two threads
# Numbers of outputs that a CPU puts aside before it counts: of small batches it counts dozens in
# the time of one.
_ASIDE = 2**16
_MOST_ASIDE = 32  # batches


@dataclass(frozen=True, slots=True)
class Metrics:
    """Mean loss per image, and the share of right answers (0 to 1)."""

    loss: float
    accuracy: float

    def of_validation(self) -> dict[str, float]:
        """By the names that recipes have for them."""
        return {"val_loss": self.loss, "val_accuracy": self.accuracy}


class Meter:
    """Sums of what was measured, images and seconds, whole and since the last look.

    The sums are of losses and of right answers and, where images do not count alike, of their
    weights and of those that count.
    """

    def __init__(self, loss: Loss, device: torch.device, group: Group | None = None) -> None:
        """In a `group` all read at the same times, and what all have counted."""
        # Apple's GPUs have no float64.
        exact = torch.float32 if device.type == "mps" else torch.float64
        self._loss = loss
        self._group = group or Group()
        self._totals = torch.zeros(2 if loss.is_even else 4, device=device, dtype=exact)
        self._puts_aside = device.type == "cpu" and loss.is_even
        self._aside: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self.begin()

    def begin(self) -> None:
        """From now on is measured, from nothing; the sums stay where they are on the device."""
        self._aside.clear()
        self._totals.zero_()
        self._totals_before, self._images_before = torch.zeros_like(self._totals), 0
        self.images = 0
        self._began = self._looked = time.perf_counter()

    def count(
        self,
        loss: torch.Tensor,
        logits: torch.Tensor,
        labels: torch.Tensor,
        targets: torch.Tensor,
    ) -> None:
        """Adds images of which `loss` is the sum of their losses, on these targets."""
        self.images += len(labels)
        if not self._puts_aside:
            self.add(loss, logits, labels, targets)
            return
        self._aside.append((loss, logits, labels))
        if len(self._aside) * logits.numel() > _ASIDE or len(self._aside) == _MOST_ASIDE:
            self._catch_up()

    def add(
        self,
        loss: torch.Tensor,
        logits: torch.Tensor,
        labels: torch.Tensor,
        targets: torch.Tensor,
    ) -> None:
        """The part of `count` that is the device's."""
        self._totals[0].add_(loss)
        self._totals[1].add_(self._loss.right(logits, labels))
        if not self._loss.is_even:
            self._totals[2].add_(self._loss.weight(targets))
            self._totals[3].add_(self._loss.counted(labels).sum())

    def _catch_up(self) -> None:
        """Counts what was put aside, losses in their order: to the bit what one by one gives."""
        if not self._aside:
            return
        losses, logits, labels = zip(*self._aside, strict=True)
        self._aside.clear()
        total = float(self._totals[0])
        for loss in torch.stack(losses).tolist():
            total += loss
        self._totals[0] = total
        self._totals[1] += self._loss.right(torch.cat(logits), torch.cat(labels))

    def due(self) -> bool:
        return self._group.agree(time.perf_counter() - self._looked >= TICK_SECONDS)

    def elapsed(self) -> float:
        return time.perf_counter() - self._began

    def means(self) -> Metrics:
        """Of all images; waits for the device. That ends the measuring: in a group `images` are
        those of all now.
        """
        totals, self.images = self._counted()
        return _means(totals, self.images)

    def read(self) -> tuple[Metrics, float]:
        """Means and images per second since the last look; waits for the device."""
        totals, images = self._counted()
        fresh = images - self._images_before
        metrics = _means(totals - self._totals_before, fresh)
        now = time.perf_counter()
        speed = fresh / (now - self._looked)
        self._totals_before, self._images_before = totals.clone(), images
        self._looked = now
        return metrics, speed

    def _counted(self) -> tuple[torch.Tensor, int]:
        """The sums and the images of the whole group."""
        self._catch_up()
        if self._group.size == 1:
            return self._totals, self.images
        here = self._totals.new_tensor([self.images])
        summed = self._group.sum(torch.cat([self._totals, here]))
        return summed[:-1], int(summed[-1])


def _means(totals: torch.Tensor, images: int) -> Metrics:
    loss_sum, right, *uneven = totals.tolist()
    weight, counted = uneven or (images, images)
    return Metrics(loss_sum / weight if weight else math.nan, right / counted if counted else 0.0)
