"""Recorded steps beside those that are done kernel by kernel; what needs a GPU for it is skipped
where there is none.
"""

import contextlib
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from models_store.fields import Computed
from models_store.recipe import Recipe
from workers import graphs, losses, optimizers, rehearsal, training
from workers.batches import Batch, Samples
from workers.steps import Prepared
from workers.training import EpochEnd, Run

MakeRecipe = Callable[..., Recipe]
CPU, GPU = torch.device("cpu"), torch.device("cuda")
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
NESTEROV = {"name": "SGD", "lr": 0.05, "momentum": 0.9, "nesterov": True}
WEIGHTS = [1.0, 2.0, 0.5, 1.0, 3.0] * 2
ONE_CYCLE = {"name": "OneCycleLR", "max_lr": 0.05}
MOVED = {"train": [{"type": "RandomCrop", "padding": 2}, {"type": "RandomHorizontalFlip"}]}


class Net(nn.Module):
    """With all that a step must not forget: statistics of batches, and chance."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers: list[nn.Module] = [nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()]
        self.layers = nn.Sequential(
            *layers, nn.Flatten(), nn.Dropout(0.1), nn.Linear(4 * 10 * 10, 10)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.layers(images)
        return logits


class Waiting(Net):
    """Waits for the device at every step, which no graph can hold."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return super().forward(images) * (1.0 if float(images.sum()) > -1 else 2.0)


def samples(count: int, device: torch.device, *, seed: int = 0) -> Samples:
    chance = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 12, 12, 1), generator=chance, dtype=torch.uint8)
    labels = torch.randint(0, 10, (count,), generator=chance)
    return Samples(pixels.to(device), labels.to(device), torch.arange(count, device=device))


def fit(
    recipe: Recipe,
    *,
    network: nn.Module | None = None,
    precision: Computed = "fp32",
    on: torch.device = GPU,
    images_on: torch.device | None = None,
) -> tuple[list[EpochEnd], Mapping[str, torch.Tensor]]:
    """The epochs and the weights at the end."""
    net = (network or Net()).to(on)
    torch.manual_seed(1)  # of dropout
    train, judged = samples(100, images_on or on), samples(40, images_on or on, seed=1)
    loss = losses.build(recipe.loss, recipe.class_weights, train.labels.to(on), classes=10)
    run = Run(on, precision=precision, normalize=None, stopped=lambda: False, classes=10, loss=loss)
    per_epoch = training.steps_per_epoch(len(train), recipe)
    begun = training.begin(net, recipe, run, steps=per_epoch * recipe.epochs)
    events = training.fit(begun, train, judged, recipe=recipe, run=run)
    return [one for one in events if isinstance(one, EpochEnd)], net.state_dict()


def test_on_the_cpu_nothing_is_tried_out(recipe: MakeRecipe) -> None:
    asked = recipe()
    run = Run(CPU, precision="fp32", normalize=None, stopped=lambda: False)
    begun = training.begin(Net(), asked, run, steps=4)
    step = training.Step(
        begun, run, lambda _: pytest.fail("tried out"), training.Meter(run.loss, CPU)
    )

    quickened = graphs.quickened(step, asked, torch.arange(8))

    assert isinstance(quickened, training.Step)
    assert quickened.learns is not None  # test_replays has the rest


@pytest.mark.parametrize("optimizer", [NESTEROV, {"name": "Adam", "lr": 0.05}])
def test_the_optimizer_moves_at_the_rate_on_the_device(optimizer: dict[str, Any]) -> None:
    weights = [nn.Parameter(torch.linspace(-1, 1, 8)) for _ in range(2)]
    built = [optimizers.build({**optimizer, "foreach": None, "fused": None}, [w]) for w in weights]
    rates = graphs.Rates(built[0], CPU)
    for rate in (0.05, 0.02, 0.02):
        for one, weight in zip(built, weights, strict=True):
            one.param_groups[0]["lr"] = rate
            weight.grad = weight.detach() ** 2
        with rates.lent():
            built[0].step()
        built[1].step()

    torch.testing.assert_close(weights[0], weights[1], rtol=1e-6, atol=1e-6)
    group = built[0].param_groups[0]
    assert group["lr"] == 0.02
    assert isinstance(group["lr"], float)
    assert not group.get("capturable")


VARIED: dict[str, dict[str, Any]] = {
    "the notes": {"optimizer": {"name": "SGD", "lr": 0.05}},
    "shuffled and moved": {"optimizer": NESTEROV, "transforms": MOVED},
    "Adam": {"optimizer": {"name": "Adam", "lr": 0.01}, "transforms": MOVED},
    "a schedule": {
        "optimizer": NESTEROV,
        "scheduler": {**ONE_CYCLE, "cycle_momentum": False},
        "clip_grad_norm": 0.5,
    },
    "a schedule of momentum": {"optimizer": NESTEROV, "scheduler": ONE_CYCLE},
    "another optimizer": {"optimizer": "NAdam"},
    "in groups": {"optimizer": NESTEROV, "grad_accumulation": 2},
    "mixed": {"optimizer": NESTEROV, "transforms": {"train": [{"type": "MixUp"}]}},
    "fp16": {"optimizer": NESTEROV},
}


class Played:
    """A graph on the processor: what it launches is computed anew, operation by operation."""

    def __init__(self) -> None:
        self.launch: Callable[[], None] = lambda: None

    def register_generator_state(self, _: torch.Generator) -> None:
        pass

    def replay(self) -> None:
        self.launch()


class Stream:
    def wait_stream(self, _: "Stream") -> None:
        pass


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    """`graphs.Recorded` for steps on the processor, as `quickened` would make them on a GPU."""

    def nothing(*_: Any, **__: Any) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    for name in ("device", "graph", "stream"):
        monkeypatch.setattr(torch.cuda, name, nothing)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Played)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)

    def recorded(step: training.Step, recipe: Recipe, index: torch.Tensor) -> graphs.Recorded:
        begun = step.training
        rates = graphs.Rates(begun.optimizer, CPU) if graphs._moves_alike(begun, recipe) else None
        whole = index[: recipe.batch_size]
        with rehearsal.unchanged(begun):
            rehearsal.rehearse(step, whole, moves=rates is not None)
            made = graphs.Recorded(step, whole, rates)
        made._graph.launch = partial(_anew, made)
        step.meter.begin()
        return made

    monkeypatch.setattr(graphs, "quickened", recorded)


def _anew(made: graphs.Recorded) -> None:
    """With gradients where they were recorded."""
    made._record()
    for parameter, gradient in made._gradients:
        gradient.copy_(parameter.grad)


ALIKE = [name for name in VARIED if name not in ("fp16", "in groups")]


@pytest.mark.parametrize("asked", ALIKE)
def test_launched_steps_train_as_others_do(
    recipe: MakeRecipe, asked: str, request: pytest.FixtureRequest
) -> None:
    chosen = recipe(**VARIED[asked], batch_size=16, epochs=3)
    others, expected = fit(chosen, on=CPU)
    request.getfixturevalue("played")

    ends, weights = fit(chosen, on=CPU)

    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-4, atol=1e-5)
    for end, other in zip(ends, others, strict=True):
        assert end.train.loss == pytest.approx(other.train.loss, rel=1e-5)
        assert end.train.accuracy == other.train.accuracy
        assert end.lr == other.lr


@pytest.mark.usefixtures("played")
def test_batches_that_no_longer_fit_are_left_to_the_plain_step(recipe: MakeRecipe) -> None:
    asked = recipe(optimizer=NESTEROV, batch_size=16)
    run = Run(CPU, precision="fp32", normalize=None, stopped=lambda: False)
    begun = training.begin(Net(), asked, run, steps=4)
    made: list[int] = []

    def make(index: torch.Tensor) -> Prepared:
        made.append(len(index))
        return Prepared(torch.zeros(len(index), 1, 12, 12), index % 10, index % 10)

    plain = training.Step(begun, run, make, training.Meter(run.loss, CPU))
    step = graphs.quickened(plain, asked, torch.arange(16))
    begun.learning.most = 8
    made.clear()

    step(Batch(torch.arange(16)))

    assert begun.in_parts
    assert step._graph is None
    assert plain.meter.images == 16


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("asked", VARIED)
def test_recorded_steps_train_as_others_do(
    recipe: MakeRecipe, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = recipe(**VARIED[asked], batch_size=16, epochs=3, device="cuda")
    precision: Computed = "fp16" if asked == "fp16" else "fp32"
    ends, weights = fit(chosen, precision=precision)
    monkeypatch.setattr(graphs, "quickened", lambda step, *_: step)

    others, expected = fit(chosen, precision=precision)

    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-4, atol=1e-5)
    for end, other in zip(ends, others, strict=True):
        assert end.train.loss == pytest.approx(other.train.loss, rel=1e-4)
        assert end.lr == other.lr


@pytest.mark.gpu
@on_gpu
def test_what_cannot_be_recorded_is_trained_all_the_same(
    recipe: MakeRecipe, caplog: pytest.LogCaptureFixture
) -> None:
    asked = recipe(optimizer=NESTEROV, transforms=MOVED, batch_size=16, epochs=2, device="cuda")

    with caplog.at_level(logging.WARNING):
        ends, _ = fit(asked, network=Waiting())

    assert "steps are not recorded" in caplog.text
    assert [end.epoch for end in ends] == [1, 2]


@pytest.mark.gpu
@on_gpu
def test_most_steps_are_recorded(recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    plain: list[int] = []
    call = training.Step.__call__

    def counted(self: training.Step, batch: Any) -> float:
        plain.append(len(batch.index))
        return call(self, batch)

    monkeypatch.setattr(training.Step, "__call__", counted)

    fit(recipe(optimizer=NESTEROV, batch_size=16, epochs=2, device="cuda"))

    assert plain == [4, 4]  # the last of each epoch


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("together", [1, 2])
def test_images_beside_the_gpu_may_have_weights(recipe: MakeRecipe, together: int) -> None:
    """Streamed ones, and those that it has no room for; their labels are beside it, too."""
    asked = recipe(class_weights=WEIGHTS, batch_size=16, grad_accumulation=together, device="cuda")
    expected, _ = fit(asked)

    ends, _ = fit(asked, images_on=CPU)

    for end, other in zip(ends, expected, strict=True):
        assert end.train.loss == pytest.approx(other.train.loss, rel=1e-4)
        assert end.validation.loss == pytest.approx(other.validation.loss, rel=1e-4)
