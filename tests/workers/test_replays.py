"""Steps from a tape beside those that are computed without: the same weights, to the bit."""

import copy
import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import nn

from models_store import architectures
from models_store.fields import Computed
from models_store.recipe import Recipe
from workers import replays, tapes, training
from workers.batches import Batch
from workers.steps import Prepared, Step
from workers.training import Run

MakeRecipe = Callable[..., Recipe]
CPU = torch.device("cpu")
STEPS, IMAGES = 22, 8


def named(architecture: str, channels: int, side: int) -> nn.Module:
    planned = architectures.plan(architecture, channels=channels, size=(side, side), classes=10)
    return architectures.build(planned).to(memory_format=torch.channels_last)


def chancy() -> nn.Module:
    """With all that a step must not forget: statistics of batches, and chance."""
    first = [nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True)]
    return nn.Sequential(*first, nn.Flatten(), nn.Dropout(0.1), nn.Linear(400, 10))


def stacked() -> nn.Module:
    """With a front that bf16 steps compute in blocks."""
    first = [nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 12 * 12, 10)]
    return nn.Sequential(*first, *second)


class Waiting(nn.Module):
    """Looks at numbers, which no tape can have."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(144, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.last(images.flatten(1))
        return logits * (2.0 if float(images.sum()) > 230 else 1.0)


def trained(
    network: nn.Module,
    asked: Recipe,
    *,
    precision: Computed,
    plain: bool = False,
    first: torch.memory_format = torch.channels_last,
) -> tuple[Mapping[str, torch.Tensor], tuple[float, float], Step]:
    """Weights and metrics after some steps; but for the last, images lie in memory like `first`."""
    run = Run(CPU, precision=precision, normalize=None, stopped=lambda: False, classes=10)
    begun = training.begin(network, asked, run, steps=STEPS)
    side, channels = (32, 3) if asked.channels == 3 else (12, 1)
    chance = torch.Generator().manual_seed(1)
    done: list[int] = []

    def make(index: torch.Tensor) -> Prepared:
        images = torch.rand(len(index), channels, side, side, generator=chance)
        labels = torch.randint(10, (len(index),), generator=chance)
        layout = torch.channels_last if len(done) > STEPS - 4 else first
        return Prepared(images.clone(memory_format=layout), labels, labels)

    meter = training.Meter(run.loss, CPU)
    step = Step(begun, run, make, meter)
    step = step if plain else replays.quickened(step, asked)
    torch.manual_seed(2)  # of dropout
    network.train()
    for number in range(STEPS):
        done.append(number)
        size = 3 if number == STEPS - 2 else IMAGES
        step(Batch(torch.arange(size)))
    metrics = meter.means()
    return network.state_dict(), (metrics.loss, metrics.accuracy), step


def is_replayed(caplog: pytest.LogCaptureFixture, step: Step) -> bool:
    return isinstance(step.learns, replays.Replaying) and "without a tape" not in caplog.text


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("build", "channels"),
    [
        (lambda: named("mnist_net", 1, 12), 1),
        (lambda: named("cifar10_net", 3, 32), 3),
        (lambda: named("resnet_small", 3, 32), 3),
        (chancy, 1),
        (stacked, 3),
    ],
)
def test_the_weights_are_those_of_steps_without(
    recipe: MakeRecipe,
    caplog: pytest.LogCaptureFixture,
    build: Callable[[], nn.Module],
    channels: int,
    precision: Computed,
) -> None:
    caplog.set_level(logging.INFO, logger="workers.replays")
    optimizer = {"name": "SGD", "lr": 0.05, "momentum": 0.9}
    asked = recipe(optimizer=optimizer, channels=channels, clip_grad_norm=1.0)
    found: list[Any] = []
    torch.use_deterministic_algorithms(True)  # of a first convolution by one thread
    try:
        for plain in (True, False):
            torch.manual_seed(0)
            found.append(trained(build(), asked, precision=precision, plain=plain))
    finally:
        torch.use_deterministic_algorithms(False)

    (weights, metrics, _), (others, measured, step) = found
    assert is_replayed(caplog, step)
    assert measured == metrics
    for key, value in weights.items():
        assert torch.equal(value, others[key]), key


def test_a_network_that_looks_at_numbers_is_computed_as_ever(
    recipe: MakeRecipe, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="workers.replays")
    found: list[Any] = []
    for plain in (True, False):
        torch.manual_seed(0)
        found.append(trained(Waiting(), recipe(), precision="fp32", plain=plain))

    assert "without a tape" in caplog.text
    assert torch.equal(found[0][0]["last.weight"], found[1][0]["last.weight"])


def test_images_may_lie_otherwise_in_memory_than_those_before(recipe: MakeRecipe) -> None:
    found: list[Any] = []
    layers = [nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10)]
    for plain in (True, False):
        torch.manual_seed(0)
        network = nn.Sequential(*copy.deepcopy(layers)).to(memory_format=torch.channels_last)
        first = torch.contiguous_format
        found.append(trained(network, recipe(), precision="fp32", plain=plain, first=first)[0])

    for key, value in found[0].items():
        assert torch.equal(value, found[1][key]), key


def test_without_memory_for_it_a_step_is_computed_as_ever(recipe: MakeRecipe) -> None:
    calls: list[int] = []

    @tapes.whole
    def narrow(images: torch.Tensor) -> torch.Tensor:
        calls.append(len(images))
        if len(calls) == 21:  # sixteen, three to make the tape, and the second one from it
            raise MemoryError
        return images.flatten(1)

    class Narrow(Waiting):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.last(narrow(images))
            return logits

    torch.manual_seed(0)
    weights, _, _ = trained(Narrow(), recipe(), precision="fp32")

    assert len(calls) == STEPS + 3 + 1
    torch.manual_seed(0)
    others, _, _ = trained(Narrow(), recipe(), precision="fp32", plain=True)
    assert torch.equal(weights["last.weight"], others["last.weight"])


@pytest.mark.parametrize("words", [{"grad_accumulation": 2}, {"compile": True}])
def test_what_cannot_be_on_a_tape_is_left_alone(recipe: MakeRecipe, words: dict[str, Any]) -> None:
    asked = recipe(**words)
    run = Run(CPU, precision="fp32", normalize=None, stopped=lambda: False)
    begun = training.begin(chancy(), asked, run, steps=4)
    step = Step(begun, run, lambda _: pytest.fail("tried out"), training.Meter(run.loss, CPU))

    assert replays.quickened(step, asked) is step
