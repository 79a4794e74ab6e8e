"""Images that already are one tensor, and the batches that an epoch makes of them.

Knows nothing of networks and optimizers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from models_store import misfits
from models_store.fields import Recipe
from workers.feeding import Fed
from workers.group import Group
from workers.losses import Loss


@dataclass(frozen=True, slots=True)
class Samples:
    """Some images: `index` (n,) points into `pixels` (N, H, W, C) uint8 and `labels` (N,).

    `own` (n, H, W, C) is a copy of them, in the order of `index`, which rises then. `rest` lets
    their memory go while they are not taken. The `negative` ones, a mask (N,), are taken inverted,
    as they would be predicted.
    """

    pixels: torch.Tensor | Fed
    labels: torch.Tensor
    index: torch.Tensor
    own: torch.Tensor | None = None
    rest: Callable[[], object] = lambda: None
    negative: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.index)

    def expect(self, batches: Sequence[torch.Tensor]) -> None:
        """These will be taken next, in this order: what is not held is read ahead."""
        if isinstance(self.pixels, Fed):
            self.pixels.expect(batches)

    def take(self, index: torch.Tensor) -> torch.Tensor:
        """The pixels of images (n,). Raises `Problem` dataset_changed, when they are not held."""
        pixels = self._as_they_are(index)
        if self.negative is None:
            return pixels
        return torch.where(self.negative[index].view(-1, 1, 1, 1), ~pixels, pixels)

    def _as_they_are(self, index: torch.Tensor) -> torch.Tensor:
        if isinstance(self.pixels, Fed):
            return self.pixels.take(index)
        if self.own is not None:
            return self.own.index_select(0, torch.searchsorted(self.index, index))
        return self.pixels.index_select(0, index)  # as [index], in half the time on a CPU


@dataclass(frozen=True, slots=True)
class Batch:
    """Some images (n,) of a group whose gradients make one step of the optimizer.

    `share` is what the batch's loss counts for in the group's; None: it is the group's. Of several
    devices each learns from those images alone that are `here`.
    """

    index: torch.Tensor
    begins: bool = True
    ends: bool = True
    share: float | torch.Tensor | None = None
    here: slice | None = None


def steps_per_epoch(samples: int, recipe: Recipe, *, least: int = 1) -> int:
    """Number of batches; the last may be smaller unless `drop_last`, and joins the one before when
    it has fewer images than `least`.
    """
    whole, rest = divmod(samples, recipe.batch_size)
    joins = whole and rest < least
    return whole + (1 if rest and not joins and not recipe.data_loader.drop_last else 0)


def batches(
    train: Samples,
    recipe: Recipe,
    order: torch.Generator,
    loss: Loss,
    *,
    least: int = 1,
    group: Group | None = None,
) -> Iterator[Batch]:
    """The batches of one epoch, or the part of each that is the `group`'s here; a last one below
    `least` joins the one before.
    """
    mixed = misfits.mixing(recipe) is not None
    divided = partial(
        (group or Group()).divide, labels=train.labels, loss=loss, mixed=mixed, least=least
    )
    index = train.index
    if recipe.data_loader.shuffle:
        index = index[torch.randperm(len(index), generator=order).to(index.device)]
    whole = list(torch.split(index, recipe.batch_size))
    if len(whole[-1]) < recipe.batch_size and recipe.data_loader.drop_last:
        whole.pop()
    elif len(whole) > 1 and len(whole[-1]) < least:
        whole[-2:] = [torch.cat(whole[-2:])]
    made = list(map(divided, _grouped(whole, train, recipe, loss, mixed=mixed)))
    train.expect([batch.index for batch in made])
    yield from made


def _grouped(
    whole: Sequence[torch.Tensor], train: Samples, recipe: Recipe, loss: Loss, *, mixed: bool
) -> Iterator[Batch]:
    """Images (n,) of each batch, with its place among those that make one step together."""
    if recipe.grad_accumulation == 1:
        yield from map(Batch, whole)
        return
    for start in range(0, len(whole), recipe.grad_accumulation):
        together = whole[start : start + recipe.grad_accumulation]
        labels = [train.labels[batch] for batch in together]
        shares = loss.shares(labels, mixed=mixed)
        for batch, share in zip(together, shares, strict=True):
            yield Batch(batch, begins=batch is together[0], ends=batch is together[-1], share=share)
