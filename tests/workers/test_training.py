import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from models_store import architectures, arguments
from models_store.fields import Computed
from models_store.recipe import Recipe
from tests.workers.noise import samples
from workers import losses, training
from workers.augmentation.mixing import mix
from workers.limits import Limits
from workers.training import EpochEnd, Metrics, Run, Samples, Tick, Training

MakeRecipe = Callable[..., Recipe]
CPU = torch.device("cpu")


def never() -> bool:
    return False


def run(*, precision: Computed = "fp32", stopped: Callable[[], bool] = never) -> Run:
    return Run(device=CPU, precision=precision, normalize=None, stopped=stopped)


def network(*, seed: int = 0) -> nn.Module:
    planned = architectures.plan("mnist_net", channels=1, size=(12, 12), classes=10)
    torch.manual_seed(seed)
    return architectures.build(planned).to(memory_format=torch.channels_last)


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 10))


def begin(recipe: Recipe, *, train: Samples, of: nn.Module | None = None, **how: Any) -> Training:
    steps = training.steps_per_epoch(len(train), recipe) * recipe.epochs
    return training.begin(of or network(), recipe, run(**how), steps=steps)


def fit(
    recipe: Recipe,
    *,
    train: Samples,
    validation: Samples | None = None,
    of: nn.Module | None = None,
    **how: Any,
) -> Iterator[Tick | EpochEnd]:
    judged = validation or samples(20, seed=1)
    begun = begin(recipe, train=train, of=of, **how)
    return training.fit(begun, train, judged, recipe=recipe, run=run(**how))


def epochs(recipe: Recipe, **given: Any) -> list[EpochEnd]:
    return [event for event in fit(recipe, **given) if isinstance(event, EpochEnd)]


def numbers(ends: list[EpochEnd]) -> list[tuple[Metrics, Metrics]]:
    return [(end.train, end.validation) for end in ends]


def test_32_random_images_are_learnt_by_heart(recipe: MakeRecipe) -> None:
    few = samples(32)

    ends = epochs(
        recipe(epochs=60, batch_size=8, optimizer={"name": "Adam", "lr": 0.003}),
        train=few,
        validation=few,
    )

    assert ends[-1].validation.accuracy == 1
    assert ends[-1].validation.loss < 0.05
    assert ends[0].validation.loss > 1


def test_the_same_seed_gives_the_same_losses_to_the_bit(recipe: MakeRecipe) -> None:
    asked: dict[str, Any] = {
        "epochs": 3,
        "batch_size": 16,
        "optimizer": {"name": "SGD", "lr": 0.05, "momentum": 0.9},
        "transforms": {
            "train": [
                {"type": "RandomCrop", "padding": 2},
                {"type": "RandomHorizontalFlip"},
                {"type": "RandomResizedCrop"},
            ]
        },
    }
    first = epochs(recipe(**asked), train=samples(50))
    again = epochs(recipe(**asked), train=samples(50))
    # The weights are drawn before, so it is order and augmentation that differ.
    other = epochs(recipe(**asked, seed=1), train=samples(50))

    assert numbers(first) == numbers(again)
    assert numbers(first) != numbers(other)


def test_the_global_generator_is_left_alone(recipe: MakeRecipe) -> None:
    built = network()
    before = torch.get_rng_state()

    flips = {"train": [{"type": "RandomHorizontalFlip"}]}
    epochs(recipe(epochs=1, transforms=flips), train=samples(32), of=built)

    assert torch.equal(torch.get_rng_state(), before)


def plain_loop(
    model: nn.Module, train: Samples, validation: Samples, *, lr: float, batch: int, epochs: int
) -> Iterator[tuple[Metrics, Metrics]]:
    """As the notes write it (2.13.1), but for the mean: theirs divides a sum of batch means by the
    number of images.
    """
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)

    def batches(of: Samples) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        images = of.pixels.permute(0, 3, 1, 2).contiguous().float() / 255
        yield from zip(images.split(batch), of.labels.split(batch), strict=True)

    for _ in range(epochs):
        train_loss = train_right = 0.0
        model.train()
        for images, targets in batches(train):
            outputs = model(images)
            loss = loss_fn(outputs, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            train_loss += loss.item() * len(images)
            train_right += (outputs.argmax(1) == targets).sum().item()
        loss_sum = right = 0.0
        model.eval()
        with torch.no_grad():
            for images, targets in batches(validation):
                outputs = model(images)
                loss_sum += loss_fn(outputs, targets).item() * len(images)
                right += (outputs.argmax(1) == targets).sum().item()
        yield (
            Metrics(train_loss / len(train), train_right / len(train)),
            Metrics(loss_sum / len(validation), right / len(validation)),
        )


def test_fp32_without_shuffle_is_a_plain_pytorch_loop(recipe: MakeRecipe) -> None:
    train, validation = samples(100), samples(70, seed=1)
    asked = recipe(
        epochs=4,
        batch_size=32,  # the last batch has 4 images, and counts as 4
        optimizer={"name": "SGD", "lr": 0.1},
        data_loader={"shuffle": False},
    )

    ours = numbers(epochs(asked, train=train, validation=validation))
    plain = list(plain_loop(network(), train, validation, lr=0.1, batch=32, epochs=4))

    for (train_ours, val_ours), (train_plain, val_plain) in zip(ours, plain, strict=True):
        assert train_ours.loss == pytest.approx(train_plain.loss, abs=1e-6)
        assert train_ours.accuracy == pytest.approx(train_plain.accuracy, abs=1e-6)
        assert val_ours.loss == pytest.approx(val_plain.loss, abs=1e-6)
        assert val_ours.accuracy == pytest.approx(val_plain.accuracy, abs=1e-6)


@pytest.mark.parametrize(
    ("count", "batch", "drop_last", "steps"),
    [
        (64, 32, False, 2),
        (65, 32, False, 3),
        (65, 32, True, 2),
        (5, 32, False, 1),
        (5, 32, True, 0),
    ],
)
def test_steps_of_an_epoch(
    recipe: MakeRecipe, count: int, batch: int, drop_last: bool, steps: int
) -> None:
    asked = recipe(batch_size=batch, data_loader={"drop_last": drop_last})

    assert training.steps_per_epoch(count, asked) == steps


@pytest.mark.parametrize(
    ("count", "batch", "drop_last", "sizes"),
    [
        (17, 8, False, [8, 9]),
        (18, 8, False, [8, 8, 2]),
        (17, 8, True, [8, 8]),
        (5, 8, False, [5]),
        (16, 8, False, [8, 8]),
    ],
)
def test_a_last_image_alone_joins_the_batch_before_where_batch_norm_needs_it(
    recipe: MakeRecipe, count: int, batch: int, drop_last: bool, sizes: list[int]
) -> None:
    asked = recipe(epochs=2, batch_size=batch, data_loader={"drop_last": drop_last})
    seen: list[int] = []
    plain = linear()
    normalised = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(144), nn.Linear(144, 10))
    for of in (plain, normalised):
        of.register_forward_hook(
            lambda module, _images, logits: seen.append(len(logits)) if module.training else None
        )

    [_, end] = epochs(asked, train=samples(count), of=normalised)

    assert seen == sizes * 2
    least = training.smallest_batch(normalised)
    assert training.steps_per_epoch(count, asked, least=least) == len(sizes)
    assert end.step == len(sizes) * 2
    seen.clear()
    epochs(asked, train=samples(count), of=plain)
    assert len(seen) == 2 * training.steps_per_epoch(count, asked)


@pytest.mark.parametrize("drop_last", [False, True])
def test_the_mean_is_per_image_over_the_images_seen(recipe: MakeRecipe, drop_last: bool) -> None:
    train = samples(70)
    seen = Samples(train.pixels, train.labels, train.index[:64] if drop_last else train.index)
    untaught = {"name": "SGD", "lr": 0.0}  # so the loss of each image stays what it is
    asked = recipe(
        epochs=2,
        batch_size=32,
        optimizer=untaught,
        data_loader={"shuffle": False, "drop_last": drop_last},
    )

    ends = epochs(asked, train=train)
    expected = training.evaluate(network(), seen, run())

    assert expected is not None
    assert [end.step for end in ends] == ([2, 4] if drop_last else [3, 6])
    for end in ends:
        assert end.train.loss == pytest.approx(expected.loss, abs=1e-6)
        assert end.train.accuracy == expected.accuracy


def test_every_epoch_shuffles_anew_and_drop_last_drops_others(recipe: MakeRecipe) -> None:
    seen: list[list[int]] = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = linear()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if self.training:
                seen.append((images[:, 0, 0, 0] * 255).round().int().tolist())
            return self.inner(images)

    train = samples(20)
    train.pixels[:, 0, 0, 0] = torch.arange(20)  # the first pixel says which image it is

    epochs(recipe(epochs=3, batch_size=8, data_loader={"drop_last": True}), train=train, of=Spy())

    orders = [seen[epoch * 2] + seen[epoch * 2 + 1] for epoch in range(3)]
    assert all(len(set(order)) == 16 for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert len({frozenset(order) for order in orders}) > 1


def test_one_cycle_is_stepped_per_batch_to_its_end(recipe: MakeRecipe) -> None:
    asked = recipe(
        epochs=7,
        batch_size=64,  # one batch an epoch, so that each epoch shows one step's rate
        optimizer={"name": "SGD", "lr": 0.5, "momentum": 0.9},
        scheduler={"name": "OneCycleLR", "max_lr": 0.1},
    )
    optimizer = torch.optim.SGD(linear().parameters(), lr=0.5, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=7)
    expected = [scheduler.get_last_lr()[0]]
    for _ in range(6):
        optimizer.step()
        scheduler.step()
        expected.append(scheduler.get_last_lr()[0])

    ends = epochs(asked, train=samples(64), of=linear())

    assert [end.lr for end in ends] == pytest.approx(expected, rel=1e-12)
    assert ends[-1].lr == pytest.approx(0.1 / 25 / 1e4)


def test_a_fresh_schedule_is_brought_to_the_step_of_its_training(recipe: MakeRecipe) -> None:
    asked = recipe(epochs=5, batch_size=16, scheduler={"name": "OneCycleLR", "max_lr": 0.1})
    train = samples(64)
    trained, advanced = (begin(asked, train=train, of=linear()) for _ in range(2))
    fitted = training.fit(trained, train, samples(8), recipe=asked, run=run())

    while trained.epoch < 3:
        next(fitted)
    assert advanced.scheduler is not None
    advanced.scheduler.advance(trained.epoch)

    assert trained.step == 12
    groups = [of.optimizer.param_groups[0] for of in (trained, advanced)]
    assert groups[0]["lr"] == groups[1]["lr"]
    assert groups[0]["betas"] == groups[1]["betas"]


def test_a_training_goes_on_after_the_epochs_that_are_done(recipe: MakeRecipe) -> None:
    train, asked = samples(64), recipe(epochs=5, batch_size=16)
    begun = begin(asked, train=train)
    begun.epoch, begun.step = 3, 12

    events = list(training.fit(begun, train, samples(8), recipe=asked, run=run()))

    ends = [(event.epoch, event.step) for event in events if isinstance(event, EpochEnd)]
    assert ends == [(4, 16), (5, 20)]
    assert isinstance(events[0], Tick)
    assert (events[0].epoch, events[0].step) == (4, 13)
    assert (begun.epoch, begun.step) == (5, 20)


def test_a_training_without_epochs_left_does_nothing(recipe: MakeRecipe) -> None:
    train, asked = samples(64), recipe(epochs=2, batch_size=16)
    begun = begin(asked, train=train)
    begun.epoch, begun.step = 2, 8

    assert list(training.fit(begun, train, samples(8), recipe=asked, run=run())) == []


def test_a_stop_is_heeded_at_the_next_step(recipe: MakeRecipe) -> None:
    asked = recipe(epochs=3, batch_size=8)
    steps: list[int] = []

    def stopped() -> bool:
        steps.append(len(steps) + 1)
        return len(steps) == 5

    events = list(fit(asked, train=samples(64), stopped=stopped))

    assert len(steps) == 5
    assert not any(isinstance(event, EpochEnd) for event in events)


def test_a_stop_is_heeded_while_evaluating(recipe: MakeRecipe) -> None:
    asked = recipe(epochs=3, batch_size=64)
    answers = iter([False, False, True])  # after the step, then before each batch of 512

    ended = epochs(
        asked,
        train=samples(64),
        validation=samples(600, seed=1),
        stopped=lambda: next(answers),
    )

    assert ended == []


def test_bf16_trains(recipe: MakeRecipe) -> None:
    few = samples(32)
    seen: set[torch.dtype] = set()
    watched = linear()
    watched.register_forward_hook(lambda module, given, logits: seen.add(logits.dtype))

    asked = recipe(epochs=20, batch_size=8, optimizer={"name": "Adam", "lr": 0.01})
    ends = epochs(asked, train=few, validation=few, of=watched, precision="bf16")

    assert ends[-1].train.loss < ends[0].train.loss / 2
    assert seen == {torch.bfloat16, torch.float32}  # predictions are made in float32
    assert run(precision="bf16").precision == "bf16"


class Watched(nn.Module):
    """Notes in which mode each forward pass was made."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Dropout(0.5), linear())
        self.modes: list[tuple[bool, bool]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.modes.append((self.training, torch.is_grad_enabled()))
        return self.inner(images)


def test_evaluation_is_in_eval_mode_without_gradients(recipe: MakeRecipe) -> None:
    watched = Watched()

    epochs(recipe(epochs=2, batch_size=32), train=samples(64), of=watched)

    train, evaluation = (True, True), (False, False)
    assert watched.modes == [train, train, evaluation] * 2


def test_evaluate_is_the_mean_over_all_images(recipe: MakeRecipe) -> None:
    many = samples(1100)  # more than two of its batches
    model = linear()

    measured = training.evaluate(model, many, run())

    logits = model(many.pixels.permute(0, 3, 1, 2).float() / 255)
    expected = nn.functional.cross_entropy(logits, many.labels).item()
    right = (logits.argmax(1) == many.labels).float().mean().item()
    assert measured is not None
    assert measured.loss == pytest.approx(expected, abs=1e-5)
    assert measured.accuracy == pytest.approx(right)


def test_the_first_step_ticks(recipe: MakeRecipe) -> None:
    train = samples(64)
    asked = recipe(epochs=1, batch_size=16, data_loader={"shuffle": False})
    first = Samples(train.pixels, train.labels, train.index[:16])
    expected = training.evaluate(network(), first, run())

    tick = next(fit(asked, train=train))

    assert isinstance(tick, Tick)
    assert expected is not None
    assert (tick.step, tick.epoch, tick.lr) == (1, 1, 0.001)
    assert tick.metrics.loss == pytest.approx(expected.loss, abs=1e-6)
    assert tick.metrics.accuracy == expected.accuracy
    assert tick.images_per_second > 0


def test_later_ticks_are_a_second_apart_and_tell_what_was_since(recipe: MakeRecipe) -> None:
    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = linear()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            time.sleep(0.2)
            return self.inner(images)

    train = samples(64)
    asked = recipe(
        epochs=1,
        batch_size=8,
        optimizer={"name": "SGD", "lr": 0.0},
        data_loader={"shuffle": False},
    )

    events = list(fit(asked, train=train, of=Slow()))

    ticks = [event for event in events if isinstance(event, Tick)]
    assert len(ticks) >= 2  # eight steps of a fifth of a second, or more on a busy machine
    before, after = ticks[0].step, ticks[1].step
    since = Samples(train.pixels, train.labels, train.index[before * 8 : after * 8])
    expected = training.evaluate(linear(), since, run())
    assert expected is not None
    assert ticks[1].metrics.loss == pytest.approx(expected.loss, abs=1e-6)
    assert ticks[1].metrics.accuracy == expected.accuracy


def test_an_epoch_tells_its_training_time_alone(recipe: MakeRecipe) -> None:
    end = epochs(recipe(epochs=1, batch_size=16), train=samples(64))[0]

    assert end.images_per_second == pytest.approx(64 / end.seconds)


def test_the_manifest_hears_what_gives_other_bits() -> None:
    made_with = run().made_with()

    assert made_with == {
        "device": "cpu",
        "precision": "fp32",
        "threads": str(torch.get_num_threads()),
    }


def test_mixed_images_are_trained_on_shares_and_judged_by_their_labels(recipe: MakeRecipe) -> None:
    lists = {"train": [{"type": "RandomErasing"}, {"type": "MixUp"}]}
    asked = recipe(epochs=1, batch_size=32, transforms=lists, data_loader={"shuffle": False})
    train, model = samples(32), linear()
    begun = begin(asked, train=train, of=model)
    inputs, targets = mix(
        train.pixels.permute(0, 3, 1, 2).float() / 255,
        train.labels,
        asked.transforms.train,
        classes=10,
        generator=torch.Generator().manual_seed(0),
    )
    with torch.no_grad():
        logits = model(inputs)
    loss = nn.functional.cross_entropy(logits, targets).item()
    right = (logits.argmax(1) == train.labels).float().mean().item()

    told = dataclasses.replace(run(), classes=10)
    events = training.fit(begun, train, samples(8), recipe=asked, run=told)
    (end,) = [event for event in events if isinstance(event, EpochEnd)]

    assert end.train.loss == pytest.approx(loss, rel=1e-5)
    assert end.train.accuracy == pytest.approx(right)


def test_what_is_judged_is_shaped_first(recipe: MakeRecipe) -> None:
    seen: set[tuple[int, ...]] = set()

    class Spy(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.add(tuple(images.shape))
            return images.flatten(1)[:, :10]

    shaping = recipe(transforms={"train": [{"type": "CenterCrop", "size": [8, 6]}]}).transforms
    told = dataclasses.replace(run(), transforms=shaping.shaping)

    assert training.evaluate(Spy(), samples(20), told) is not None
    assert seen == {(20, 1, 8, 6)}


def plain_epochs(
    model: nn.Module,
    train: Samples,
    *,
    batch: int,
    loss_fn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    clip: float | None = None,
    scheduler: Any = None,
) -> list[float]:
    """Three epochs as one writes them by hand; the learning rate of each."""
    images = train.pixels.permute(0, 3, 1, 2).contiguous().float() / 255
    rates = []
    for _ in range(3):
        rates.append(optimizer.param_groups[0]["lr"])
        for some, targets in zip(images.split(batch), train.labels.split(batch), strict=True):
            optimizer.zero_grad()
            loss_fn(model(some), targets).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return rates


def one_hot(loss: nn.Module) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    return lambda logits, labels: loss(logits, nn.functional.one_hot(labels, 10).float())


CLASS_WEIGHTS = [0.5 + number for number in range(10)]
LOSSES: list[tuple[Any, Any]] = [
    ("CrossEntropyLoss", nn.CrossEntropyLoss()),
    (
        {"label_smoothing": 0.1, "reduction": "sum"},
        nn.CrossEntropyLoss(label_smoothing=0.1, reduction="sum"),
    ),
    ({"weight": CLASS_WEIGHTS}, nn.CrossEntropyLoss(torch.tensor(CLASS_WEIGHTS))),
    ({"ignore_index": 3}, nn.CrossEntropyLoss(ignore_index=3)),
    ("L1Loss", one_hot(nn.L1Loss())),
    ("MSELoss", one_hot(nn.MSELoss())),
]


@pytest.mark.parametrize(("asked", "loss_fn"), LOSSES, ids=range(len(LOSSES)))
def test_each_loss_trains_as_in_a_plain_loop(recipe: MakeRecipe, asked: Any, loss_fn: Any) -> None:
    train, ours, theirs = samples(70), linear(), linear()
    words = recipe(
        epochs=3,
        batch_size=16,
        loss=asked,
        optimizer={"name": "SGD", "lr": 0.1, "foreach": False},
        data_loader={"shuffle": False},
    )
    built = losses.build(words.loss, None, train.labels, classes=10)
    with_it = Run(CPU, "fp32", None, never, loss=built)

    begun = training.begin(ours, words, with_it, steps=15)
    ends = [*training.fit(begun, train, samples(20), recipe=words, run=with_it)]
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1)
    plain_epochs(theirs, train, batch=16, loss_fn=loss_fn, optimizer=optimizer)

    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)
    last = ends[-1]
    assert isinstance(last, EpochEnd)
    judged = samples(20)
    logits = ours(judged.pixels.permute(0, 3, 1, 2).float() / 255)
    if "sum" not in str(asked):
        expected = loss_fn(logits, judged.labels).item()
        assert last.validation.loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", [name for name in arguments.OPTIMIZERS if name != "Muon"])
def test_each_optimizer_trains_as_in_a_plain_loop(recipe: MakeRecipe, name: str) -> None:
    train, ours, theirs = samples(64), linear(), linear()
    words = recipe(
        epochs=3,
        batch_size=16,
        optimizer={"name": name, "lr": 0.01},
        scheduler={"name": "ExponentialLR", "gamma": 0.5},
        data_loader={"shuffle": False},
    )

    ends = epochs(words, train=train, of=ours)
    optimizer = getattr(torch.optim, name)(theirs.parameters(), lr=0.01)
    rates = plain_epochs(
        theirs,
        train,
        batch=16,
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5),
    )

    assert [end.lr for end in ends] == rates
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)  # some are fused


def test_gradients_are_cut_to_their_norm(recipe: MakeRecipe) -> None:
    train, ours, theirs, free = samples(64), linear(), linear(), linear()
    words: dict[str, Any] = {
        "epochs": 3,
        "batch_size": 16,
        "optimizer": {"name": "SGD", "lr": 0.5},
        "data_loader": {"shuffle": False},
    }

    epochs(recipe(**words, clip_grad_norm=0.1), train=train, of=ours)
    epochs(recipe(**words), train=train, of=free)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.5)
    plain_epochs(
        theirs, train, batch=16, loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, clip=0.1
    )

    weight, plain, uncut = (next(one.parameters()) for one in (ours, theirs, free))
    torch.testing.assert_close(weight, plain, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(weight, uncut, atol=1e-3)


@pytest.mark.parametrize(
    "given", [{}, {"class_weights": CLASS_WEIGHTS}, {"loss": {"reduction": "sum"}}], ids=str
)
def test_gathered_gradients_are_those_of_one_large_batch(
    recipe: MakeRecipe, given: dict[str, Any]
) -> None:
    train, many, one = samples(70), linear(), linear()
    words: dict[str, Any] = {
        "epochs": 3,
        "optimizer": {"name": "SGD", "lr": 0.01, "momentum": 0.9},
        "scheduler": {"name": "OneCycleLR", "max_lr": 0.01},
        **given,
    }
    small = recipe(batch_size=8, grad_accumulation=4, **words)
    large = recipe(batch_size=32, **words)  # 32, 32 and 6, as four of 8, four of 8, and one of 6
    measured = []
    for asked, model in ((small, many), (large, one)):
        built = losses.build(asked.loss, asked.class_weights, train.labels, classes=10)
        with_it = Run(CPU, "fp32", None, never, loss=built)
        steps = training.steps_per_epoch(70, asked) * 3
        begun = training.begin(model, asked, with_it, steps=steps)
        events = training.fit(begun, train, samples(20), recipe=asked, run=with_it)
        measured.append([event for event in events if isinstance(event, EpochEnd)])

    for mine, other in zip(many.parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)
    for gathered, whole in zip(*measured, strict=True):
        assert gathered.lr == pytest.approx(whole.lr)
        assert gathered.train.loss == pytest.approx(whole.train.loss, rel=1e-4)
    assert [end.step for end in measured[0]] == [9, 18, 27]  # batches


def test_fp16_trains(recipe: MakeRecipe) -> None:
    """On a CPU here, which devices would refuse; the scale of the loss is the same."""
    few = samples(32)
    words: dict[str, Any] = {"epochs": 20, "batch_size": 8, "clip_grad_norm": 5.0}
    asked = recipe(**words, optimizer={"name": "Adam", "lr": 0.01})

    ends = epochs(asked, train=few, validation=few, of=linear(), precision="fp16")

    assert ends[-1].train.loss < ends[0].train.loss / 2


def test_a_run_that_gets_no_better_ends(recipe: MakeRecipe) -> None:
    asked = recipe(
        epochs=50,
        batch_size=32,
        optimizer={"name": "SGD", "lr": 0.0},
        early_stopping={"metric": "val_accuracy", "patience": 3},
    )

    ends = epochs(asked, train=samples(64))

    assert [end.epoch for end in ends] == [1, 2, 3, 4]
    assert [end.stop_reason for end in ends] == [None, None, None, "early_stopping"]


def test_the_last_epoch_ends_by_itself(recipe: MakeRecipe) -> None:
    asked = recipe(epochs=2, batch_size=32, early_stopping={"patience": 1, "min_delta": 100})

    ends = epochs(asked, train=samples(64))

    assert [end.stop_reason for end in ends] == [None, None]


class Ticking:
    """A clock that moves by a second at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_time_that_is_up_ends_an_epoch_in_its_middle(recipe: MakeRecipe) -> None:
    asked = recipe(epochs=50, batch_size=8, max_seconds=6, grad_accumulation=2)
    train = samples(64)
    begun = begin(asked, train=train)
    begun.limits = Limits(asked, clock=Ticking())

    events = training.fit(begun, train, samples(20), recipe=asked, run=run())
    ends = [event for event in events if isinstance(event, EpochEnd)]

    # Four looks and one after the epoch; the sixth is after the first group of the next.
    assert [(end.epoch, end.stop_reason) for end in ends] == [
        (1, None),
        (2, "max_seconds"),
    ]
    assert begun.step == 10
