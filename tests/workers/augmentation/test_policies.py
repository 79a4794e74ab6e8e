"""Each change at each strength is torchvision's; which are drawn how often follows its rules."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

from models_store.transforms import AutoAugment, RandAugment, TrivialAugmentWide
from workers.augmentation import policies
from workers.augmentation.policies import COLOURS, MOVES, OPERATIONS, magnitudes

Generator = Callable[[], torch.Generator]
COUNT, BINS = 12, 31


def table(kind: str, images: torch.Tensor) -> torch.Tensor:
    wide = kind == "TrivialAugmentWide"
    return magnitudes(policies._WIDE if wide else policies._usual(images), BINS)


@pytest.mark.parametrize("fill", [None, 30.0])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("kind", ["AutoAugment", "RandAugment", "TrivialAugmentWide"])
def test_each_change_at_each_strength_is_torchvisions(
    kind: str, mode: str, fill: float | None, pictures: Any, each: Any, alike: Any, v2: Any
) -> None:
    images = pictures(COUNT)
    how = v2.InterpolationMode(mode)
    theirs = getattr(v2, kind)(interpolation=how, fill=fill)
    asked = RandAugment(type="RandAugment", interpolation=mode, fill=fill)
    bins = torch.linspace(0, BINS - 1, COUNT).long()
    for name, (strengths, signed) in theirs._AUGMENTATION_SPACE.items():
        operations = torch.full((COUNT,), OPERATIONS.index(name))
        strong = table(kind, images)[operations, bins]
        strong = torch.where(torch.arange(COUNT) % 3 == 0, -strong, strong) if signed else strong
        listed = strengths(BINS, *images.shape[1:3])

        def apply(
            at: int, image: torch.Tensor, *, name: str = name, listed: Any = listed, s: Any = signed
        ) -> torch.Tensor:
            magnitude = 0.0 if listed is None else float(listed[bins[at]])
            magnitude = -magnitude if s and at % 3 == 0 else magnitude
            made: torch.Tensor = theirs._apply_image_or_video_transform(
                image, name, magnitude, interpolation=how, fill=theirs._fill
            )
            return made

        made = policies.change(images, operations, strong, asked)
        assert alike(made, each(images, apply), share=0.02), name


def test_there_is_no_other_change(v2: Any) -> None:
    spaces = (v2.AutoAugment, v2.RandAugment, v2.TrivialAugmentWide)
    assert set(OPERATIONS) == {name for kind in spaces for name in kind._AUGMENTATION_SPACE}
    assert (*MOVES, "Identity", *COLOURS) == OPERATIONS


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What was to be changed and by how much, each time."""
    found: list[tuple[torch.Tensor, torch.Tensor]] = []

    def change(images: torch.Tensor, *numbers: Any, **_: Any) -> torch.Tensor:
        found.append((numbers[0], numbers[1]))
        return images

    monkeypatch.setattr(policies, "change", change)
    return found


IMAGES = torch.zeros(7000, 10, 20, 3, dtype=torch.uint8)


def test_rand_augment_draws_all_alike(chance: Generator, drawn: Any) -> None:
    asked = RandAugment(type="RandAugment", num_ops=3, magnitude=15)
    policies.rand_augment(IMAGES, asked, chance())
    assert len(drawn) == 3
    counts = Counter(drawn[0][0].tolist())
    names = {OPERATIONS[at] for at in counts}
    assert names == set(OPERATIONS) - {"Invert"}
    assert [*counts.values()] == pytest.approx([500] * 14, abs=110)
    operations, strong = drawn[1]
    turned = strong[operations == OPERATIONS.index("Rotate")]
    assert {round(one, 3) for one in turned.tolist()} == {-15.0, 15.0}
    assert turned.sign().mean().item() == pytest.approx(0, abs=0.2)
    assert strong[operations == OPERATIONS.index("Posterize")].unique().tolist() == [6.0]


def test_trivial_augment_draws_any_strength(chance: Generator, drawn: Any) -> None:
    asked = TrivialAugmentWide(type="TrivialAugmentWide", num_magnitude_bins=5)
    policies.trivial_augment_wide(IMAGES, asked, chance())
    ((operations, strong),) = drawn
    assert {OPERATIONS[at] for at in operations.unique()} == set(OPERATIONS) - {"Invert"}
    sheared = strong[operations == OPERATIONS.index("ShearX")].abs().unique()
    assert sheared.tolist() == pytest.approx([0, 0.2475, 0.495, 0.7425, 0.99])
    bits = strong[operations == OPERATIONS.index("Posterize")].unique().tolist()
    assert bits == [2.0, 4.0, 5.0, 6.0, 8.0]


@pytest.mark.parametrize("policy", ["imagenet", "cifar10", "svhn"])
def test_auto_augment_makes_the_pairs_of_its_policy(
    policy: Any, chance: Generator, drawn: Any, v2: Any
) -> None:
    policies.auto_augment(IMAGES, AutoAugment(type="AutoAugment", policy=policy), chance())
    (first, _), (second, strong) = drawn
    made = Counter((OPERATIONS[a], OPERATIONS[b]) for a, b in zip(first, second, strict=True))
    expected: Counter[tuple[str, str]] = Counter()
    for (a, p, _), (b, q, _) in v2.AutoAugment(v2.AutoAugmentPolicy(policy))._policies:
        for left, share in ((a, p), ("Identity", 1 - p)):
            for right, other in ((b, q), ("Identity", 1 - q)):
                expected[left, right] += share * other * len(IMAGES) / 25
    for pair in expected.keys() | made.keys():
        assert made[pair] == pytest.approx(expected[pair], abs=6 + 4.5 * expected[pair] ** 0.5), (
            pair
        )
    assert strong[second == OPERATIONS.index("Identity")].abs().max() == 0


def test_grey_images_have_no_colour(chance: Generator, pictures: Any) -> None:
    images = pictures(40, channels=1)
    for asked, augment in (
        (AutoAugment(type="AutoAugment"), policies.auto_augment),
        (RandAugment(type="RandAugment", fill=[9.0]), policies.rand_augment),
        (TrivialAugmentWide(type="TrivialAugmentWide"), policies.trivial_augment_wide),
    ):
        # Each function goes with its own kind; a tuple of pairs cannot say so.
        made = augment(images, asked, chance())  # type: ignore[operator]
        assert (made.shape, made.dtype) == (images.shape, torch.uint8)
