"""MixUp and CutMix: what comes of images and labels for a share, and how shares are drawn."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from models_store.transforms import CutMix, MixUp, RandomErasing, TrainTransform
from workers.augmentation.mixing import beta, mix

Generator = Callable[[], torch.Generator]
INPUTS = torch.rand(6, 3, 10, 12, generator=torch.Generator().manual_seed(3))
LABELS = torch.tensor([0, 1, 2, 3, 3, 1])


def mixed(
    *transforms: TrainTransform, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    return mix(INPUTS, LABELS, transforms, classes=5, generator=generator)


def test_nothing_to_mix_leaves_the_labels(chance: Generator) -> None:
    erasing = RandomErasing(type="RandomErasing", p=1.0)
    inputs, targets = mixed(erasing, generator=chance())
    assert targets is LABELS
    assert not torch.equal(inputs, INPUTS)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixes_up_as_torchvision(alpha: float, chance: Generator, v2: Any) -> None:
    inputs, targets = mixed(MixUp(type="MixUp", alpha=alpha), generator=chance())
    kept = beta(alpha, chance()).item()  # the same number again
    theirs = v2.MixUp(alpha=alpha, num_classes=5)
    params = {"labels": LABELS, "batch_size": 6, "lam": kept}
    assert torch.allclose(inputs, theirs.transform(INPUTS, params), atol=1e-6)
    assert torch.allclose(targets, theirs.transform(LABELS, params), atol=1e-6)


def test_a_cut_box_is_the_neighbours_and_counts_by_its_area(chance: Generator) -> None:
    generator, areas = chance(), set()
    one_hot = functional.one_hot(LABELS, 5).float()
    for _ in range(30):
        inputs, targets = mixed(CutMix(type="CutMix"), generator=generator)
        changed = (inputs != INPUTS).all(1)
        box = changed[0]
        assert bool((changed == box).all())
        assert torch.equal(box, box.any(1).view(-1, 1) & box.any(0).view(1, -1))
        assert torch.equal(inputs, torch.where(box, INPUTS.roll(1, 0), INPUTS))
        kept = 1 - box.float().mean()
        assert torch.allclose(targets, kept * one_hot + (1 - kept) * one_hot.roll(1, 0), atol=1e-6)
        areas.add(round(kept.item(), 4))
    assert len(areas) > 15


def test_boxes_are_distributed_as_torchvisions(chance: Generator, v2: Any) -> None:
    torch.manual_seed(0)
    theirs = v2.CutMix(num_classes=5)
    drawn = [theirs.make_params([INPUTS])["lam_adjusted"] for _ in range(1500)]
    cut, generator = CutMix(type="CutMix"), chance()
    labels = torch.tensor([0, 1])
    ours = [
        mix(INPUTS[:2], labels, [cut], classes=2, generator=generator)[1][0, 0].item()
        for _ in range(1500)
    ]
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        expected = torch.tensor(drawn).quantile(quantile).item()
        assert torch.tensor(ours).quantile(quantile).item() == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 3.0])
def test_shares_are_of_the_beta_distribution(alpha: float, chance: Generator) -> None:
    scipy = pytest.importorskip("scipy.stats")
    generator = chance()
    drawn = torch.stack([beta(alpha, generator) for _ in range(1200)]).double()
    # The upper half is the mirrored lower one, but close to 1 numbers are rounded to it.
    lower = drawn[drawn < 0.5]
    assert len(lower) == pytest.approx(600, abs=80)
    known = scipy.beta(alpha, alpha)
    assert scipy.kstest(lower.numpy(), lambda x: 2 * known.cdf(x)).pvalue > 0.01


@pytest.mark.parametrize("alpha", [0.01, 100.0])
def test_the_outermost_shares_are_numbers(alpha: float, chance: Generator) -> None:
    generator = chance()
    drawn = torch.stack([beta(alpha, generator) for _ in range(300)])
    assert bool(((drawn >= 0) & (drawn <= 1)).all())


def test_one_after_the_other(chance: Generator) -> None:
    both = (MixUp(type="MixUp"), CutMix(type="CutMix"))
    inputs, targets = mixed(*both, generator=chance())
    assert inputs.shape == INPUTS.shape
    assert targets.shape == (6, 5)
    assert torch.allclose(targets.sum(1), torch.ones(6))
    loss = functional.cross_entropy(torch.zeros(6, 5), targets)
    assert loss.item() == pytest.approx(torch.log(torch.tensor(5.0)).item(), abs=1e-5)


def test_a_batch_of_one_is_mixed_with_itself(chance: Generator) -> None:
    inputs, targets = mix(
        INPUTS[:1], LABELS[:1], [MixUp(type="MixUp")], classes=5, generator=chance()
    )
    assert torch.allclose(inputs, INPUTS[:1])
    assert torch.allclose(targets, functional.one_hot(LABELS[:1], 5).float())
