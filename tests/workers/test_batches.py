"""The batches of an epoch and the groups they make; training itself is in test_training."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models_store.recipe import Recipe
from workers.batches import Batch, Samples, batches, steps_per_epoch
from workers.losses import Loss

MakeRecipe = Callable[..., Recipe]
LABELS = torch.tensor([0, 1] * 11)


def samples() -> Samples:
    return Samples(torch.zeros(22, 2, 2, 1, dtype=torch.uint8), LABELS, torch.arange(22))


def epoch(asked: Recipe, loss: Loss | None = None) -> list[Batch]:
    order = torch.Generator().manual_seed(0)
    return list(batches(samples(), asked, order, loss or Loss()))


def test_negatives_are_taken_inverted() -> None:
    pixels = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1)
    negative = torch.tensor([False, True, False, True])
    given = Samples(pixels, torch.zeros(4), torch.arange(4), negative=negative)

    assert given.take(torch.tensor([3, 0, 1])).flatten().tolist() == [252, 0, 254]


def test_a_batch_is_a_step_unless_gradients_are_gathered(recipe: MakeRecipe) -> None:
    made = epoch(recipe(batch_size=4))

    assert [len(one.index) for one in made] == [4, 4, 4, 4, 4, 2]
    assert all(one.begins and one.ends and one.share is None for one in made)
    assert torch.cat([one.index for one in made]).sort().values.tolist() == list(range(22))


@pytest.mark.parametrize(
    ("drop_last", "sizes", "ends", "shares"),
    [
        (False, [4, 4, 4, 4, 4, 2], [3, 5], [0.25] * 4 + [4 / 6, 2 / 6]),
        (True, [4, 4, 4, 4, 4], [3, 4], [0.25] * 4 + [1.0]),
    ],
)
def test_the_last_group_of_an_epoch_may_be_smaller(
    recipe: MakeRecipe, drop_last: bool, sizes: list[int], ends: list[int], shares: list[float]
) -> None:
    asked = recipe(batch_size=4, grad_accumulation=4, data_loader={"drop_last": drop_last})

    made = epoch(asked)

    assert len(made) == steps_per_epoch(22, asked)
    assert [len(one.index) for one in made] == sizes
    assert [number for number, one in enumerate(made) if one.ends] == ends
    assert [number for number, one in enumerate(made) if one.begins] == [0, 4]
    assert [one.share for one in made] == pytest.approx(shares)


@pytest.mark.parametrize("given", [{"weight": torch.tensor([1.0, 3.0])}, {"ignore_index": 1}])
def test_shares_are_of_weights_where_images_weigh_differently(
    recipe: MakeRecipe, given: dict[str, Any]
) -> None:
    loss = Loss(**given)

    made = epoch(recipe(batch_size=3, grad_accumulation=2), loss)

    for one, other in zip(made[::2], made[1::2], strict=True):
        weights = [float(loss.weight(LABELS[batch.index])) for batch in (one, other)]
        assert float(one.share or 0) == pytest.approx(weights[0] / sum(weights))
        assert float(one.share or 0) + float(other.share or 0) == pytest.approx(1)


def test_a_sum_needs_no_shares(recipe: MakeRecipe) -> None:
    made = epoch(recipe(batch_size=4, grad_accumulation=3), Loss(reduction="sum"))

    assert [one.share for one in made] == [None] * 6
