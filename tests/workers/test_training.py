import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from models_store import architectures
from models_store.recipe import Recipe
from workers import training
from workers.augmentation.mixing import mix
from workers.training import EpochEnd, Metrics, Run, Samples, Tick, Training

MakeRecipe = Callable[..., Recipe]
CPU = torch.device("cpu")


def never() -> bool:
    return False


def run(*, bf16: bool = False, stopped: Callable[[], bool] = never) -> Run:
    return Run(device=CPU, bf16=bf16, normalize=None, stopped=stopped)


def samples(count: int, *, seed: int = 0, classes: int = 10) -> Samples:
    chance = torch.Generator().manual_seed(seed)
    return Samples(
        pixels=torch.randint(0, 256, (count, 12, 12, 1), generator=chance, dtype=torch.uint8),
        labels=torch.randint(0, classes, (count,), generator=chance),
        index=torch.arange(count),
    )


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
    advanced.step = trained.step
    advanced.advance_schedule()

    assert trained.step == 12
    assert trained.scheduler is not None
    assert advanced.scheduler is not None
    assert advanced.scheduler.get_last_lr() == trained.scheduler.get_last_lr()
    assert advanced.optimizer.param_groups[0]["betas"] == trained.optimizer.param_groups[0]["betas"]


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
    ends = epochs(asked, train=few, validation=few, of=watched, bf16=True)

    assert ends[-1].train.loss < ends[0].train.loss / 2
    assert seen == {torch.bfloat16, torch.float32}  # predictions are made in float32
    assert run(bf16=True).precision == "bf16"


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


def test_later_ticks_are_half_a_second_apart_and_tell_what_was_since(recipe: MakeRecipe) -> None:
    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = linear()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            time.sleep(0.1)
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
    assert len(ticks) >= 2  # eight steps of a tenth of a second, or more on a busy machine
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
