"""Lists of transforms: each does its own, in order; all train, and go on where they were."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models_store.fields import Recipe
from models_store.pipeline import TRAIN, Transforms, size_of, stages
from models_store.preprocess import to_input
from models_store.transforms import TrainTransform
from workers import state, training
from workers.augmentation import policies
from workers.augmentation.augment import augment
from workers.augmentation.mixing import mix
from workers.training import EpochEnd, Run, Samples, Training

Generator = Callable[[], torch.Generator]

# With all that has no default, and such that images of any kind are changed.
GIVEN: dict[str, dict[str, Any]] = {
    "Resize": {"size": 10},
    "CenterCrop": {"size": [10, 11]},
    "RandomHorizontalFlip": {},
    "RandomVerticalFlip": {},
    "RandomRotation": {"degrees": 40, "interpolation": "bilinear"},
    "ColorJitter": {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.1},
    "Grayscale": {"num_output_channels": 3},
    "Normalize": {"mean": [0.5] * 3, "std": [0.2, 0.3, 0.4]},
    "TrivialAugmentWide": {"fill": [1.0, 2.0, 3.0]},
}
LISTS: dict[str, list[dict[str, Any]]] = {
    **{name: [{"type": name, **GIVEN.get(name, {})}] for name in TRAIN},
    "RandomCrop to a size": [{"type": "RandomCrop", "size": 9, "padding_mode": "edge"}],
    "RandomResizedCrop to a size": [{"type": "RandomResizedCrop", "size": [9, 10]}],
    "RandomErasing of pixels": [{"type": "RandomErasing"}, {"type": "RandomVerticalFlip"}],
    "all that is usual": [
        {"type": "RandomResizedCrop", "size": 10},
        {"type": "RandomHorizontalFlip"},
        {"type": "RandAugment"},
        {"type": "Normalize", "mean": [0.5] * 3, "std": [0.5] * 3},
        {"type": "RandomErasing", "value": "random"},
        {"type": "MixUp", "alpha": 0.4},
        {"type": "CutMix"},
    ],
}
# They draw nothing, or do nothing to pixels.
ALL_ALIKE = {"Resize", "CenterCrop", "Grayscale", "Normalize", "RandomErasing", "MixUp", "CutMix"}


def read(listed: list[dict[str, Any]]) -> list[TrainTransform]:
    return Transforms.model_validate({"train": listed}).train


def asked(*listed: dict[str, Any] | str) -> list[TrainTransform]:
    return read([{"type": one} if isinstance(one, str) else one for one in listed])


def test_nothing_asked_for_changes_nothing(chance: Generator, pictures: Any) -> None:
    images = pictures(4)
    assert augment(images, [], chance()) is images


@pytest.mark.parametrize("name", LISTS)
def test_size_and_type_are_known_and_the_generator_decides(
    name: str, chance: Generator, pictures: Any
) -> None:
    images, train = pictures(16), read(LISTS[name])
    before = images.clone()
    on_pixels = stages(train).pixels

    changed = augment(images, on_pixels, chance())

    assert changed.dtype == torch.uint8
    assert changed.shape == (16, *size_of((21, 26), train), 3)
    assert torch.equal(augment(images, on_pixels, chance()), changed)
    assert torch.equal(images, before)  # they are the data set's own, mapped from disk
    assert to_input(changed, None).is_contiguous(memory_format=torch.channels_last)
    if on_pixels:
        assert not torch.equal(changed, images)


@pytest.mark.parametrize("name", [one for one in LISTS if one not in ALL_ALIKE])
def test_each_image_draws_its_own_numbers(name: str, chance: Generator, pictures: Any) -> None:
    same = pictures(2)[1:].expand(48, -1, -1, -1)
    changed = augment(same, stages(read(LISTS[name])).pixels, chance())
    assert len({tuple(image.flatten().tolist()) for image in changed}) > 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "kernel"),
    [("RandomHorizontalFlip", "horizontal_flip"), ("RandomVerticalFlip", "vertical_flip")],
)
def test_flips_are_torchvisions(
    name: str, kernel: str, channels: int, chance: Generator, pictures: Any, v2: Any
) -> None:
    images = pictures(4000, height=5, width=4, channels=channels)
    mirrored = getattr(v2.functional, kernel)(images.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def flipped(p: float) -> torch.Tensor:
        return augment(images, asked({"type": name, "p": p}), chance())

    assert torch.equal(flipped(1.0), mirrored)
    assert torch.equal(flipped(0.0), images)
    is_mirrored = (flipped(0.3) == mirrored).flatten(1).all(1)
    is_same = (flipped(0.3) == images).flatten(1).all(1)
    assert bool((is_mirrored | is_same).all())
    assert is_mirrored.float().mean().item() == pytest.approx(0.3, abs=0.03)


def test_transforms_follow_in_order(chance: Generator, pictures: Any) -> None:
    images = pictures(4)
    flip, crop = asked({"type": "RandomHorizontalFlip", "p": 1.0}, "RandomCrop")
    generator = chance()

    step_by_step = augment(augment(images, [flip], generator), [crop], generator)

    assert torch.equal(augment(images, [flip, crop], chance()), step_by_step)


class PretendedGenerator:
    """Of a GPU, which need not be there."""

    device = torch.device("cuda:0")


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedGenerator]:
    """Tensors without numbers that say they are on a GPU. To ask for a number fails, as does a
    result whose size depends on one: on a GPU each would wait for all that was asked of it before.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode  # takes a second

    for name in ("rand", "randn", "randint"):
        monkeypatch.setattr(torch, name, _without_generator(getattr(torch, name)))
    policies.magnitudes.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield PretendedGenerator()
    policies.magnitudes.cache_clear()


def _without_generator(draw: Any) -> Any:
    return lambda *args, generator, **kwargs: draw(*args, **kwargs)


@pytest.mark.parametrize("name", LISTS)
def test_nothing_waits_for_a_gpu(name: str, pretended_gpu: Any) -> None:
    on_pixels, on_inputs = stages(read(LISTS[name]))
    images = torch.empty(16, 21, 26, 3, dtype=torch.uint8, device="cuda")
    labels = torch.empty(16, dtype=torch.int64, device="cuda")

    changed = augment(images, on_pixels, pretended_gpu)
    inputs, targets = mix(
        to_input(changed, None), labels, on_inputs, classes=4, generator=pretended_gpu
    )

    assert {one.device.type for one in (changed, inputs, targets)} == {"cuda"}
    assert (changed.dtype, inputs.dtype) == (torch.uint8, torch.float32)
    with pytest.raises(Exception, match="nonzero"):
        labels.nonzero()


# Training


def samples(count: int) -> Samples:
    drawing = torch.Generator().manual_seed(count)
    return Samples(
        pixels=torch.randint(0, 256, (count, 12, 12, 3), generator=drawing, dtype=torch.uint8),
        labels=torch.randint(0, 4, (count,), generator=drawing),
        index=torch.arange(count),
    )


def begin(recipe: Recipe, run: Run) -> Training:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 4)
    )
    return training.begin(network.to(memory_format=torch.channels_last), recipe, run, steps=6)


def train(begun: Training, recipe: Recipe, run: Run, *, until: int) -> list[Any]:
    ends = []
    for event in training.fit(begun, samples(24), samples(9), recipe=recipe, run=run):
        if isinstance(event, EpochEnd):
            ends.append((event.train, event.validation))
        if begun.epoch == until:
            break
    return ends


@pytest.mark.parametrize("name", LISTS)
def test_every_transform_trains_and_goes_on_to_the_bit(
    name: str, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    wanted = recipe(transforms={"train": LISTS[name]}, channels=3, epochs=3, batch_size=12)
    assert not isinstance(wanted.normalize, str)
    run = Run(
        device=torch.device("cpu"),
        precision="fp32",
        normalize=wanted.normalize,
        stopped=lambda: False,
        transforms=wanted.transforms.shaping,
        classes=4,
    )
    whole, first = begin(wanted, run), begin(wanted, run)
    expected = train(whole, wanted, run, until=3)
    fresh = begin(wanted, run).network.state_dict()

    measured = train(first, wanted, run, until=1)
    state.keep(tmp_path, first)
    second = begin(wanted, run)
    assert state.restore(tmp_path, second)
    measured += train(second, wanted, run, until=3)

    assert measured == expected
    assert second.step == 6
    for key, value in whole.network.state_dict().items():
        assert torch.equal(second.network.state_dict()[key], value)
        assert not torch.equal(fresh[key], value)
    assert torch.equal(second.chance.get_state(), whole.chance.get_state())
