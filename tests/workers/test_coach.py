"""Three rules, on made-up curves and on real runs."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

from data_store import arrays
from data_store.parts import DataSet
from models_store import architectures
from models_store import recipe as recipes
from models_store.recipe import Recipe, SubmittedRecipe
from workers import coach, training
from workers.coach import DIVERGED, NOTHING_LEARNED, OVERFITTING, Coach, Lesson, Row
from workers.split import split
from workers.training import Run
from workers.watching import Earlier, listener

Make = Callable[..., Recipe]
TEN = Lesson(shares=[0.1] * 10, validation_count=1000, steps=1000, epochs=20)


def rows(
    train_loss: list[float | None],
    val_loss: list[float | None],
    *,
    train: float = 0.5,
    val: float = 0.5,
    steps: int = 50,
) -> list[Row]:
    return [
        Row(n, n * steps, losses[0], train, losses[1], val)
        for n, losses in enumerate(zip(train_loss, val_loss, strict=True), 1)
    ]


def listen(recipe: Recipe, heard: list[Row], lesson: Lesson = TEN) -> list[coach.Advice]:
    hears = Coach(recipe, lesson, said=set())
    return [advice for row in heard for advice in hears.epoch(row)]


class TestDiverged:
    @pytest.mark.parametrize("train_loss", [math.nan, math.inf])
    def test_a_loss_that_is_no_number(self, recipe: Make, train_loss: float) -> None:
        hears = Coach(recipe(), TEN, said=set())

        assert hears.tick(2.0) is None
        said = hears.tick(train_loss)

        assert said is not None
        assert said.code == DIVERGED
        assert hears.tick(train_loss) is None  # once

    @pytest.mark.parametrize(
        ("train", "val"), [([2.0, None], [2.0, 2.0]), ([2.0, 1.0], [2.0, None]), ([99.0], [9.0])]
    )
    def test_at_the_end_of_an_epoch(
        self, recipe: Make, train: list[float | None], val: list[float | None]
    ) -> None:
        assert [one.code for one in listen(recipe(), rows(train, val))] == [DIVERGED]

    def test_a_loss_that_grows(self, recipe: Make) -> None:
        assert listen(recipe(), rows([2.2, 4.4], [2.2, 4.4])) == []
        (said,) = listen(recipe(), rows([2.2, 4.4, 5.0, 60.0], [2.2] * 4))
        assert said.code == DIVERGED

    def test_a_network_that_begins_badly_may_fall(self, recipe: Make) -> None:
        """Inputs that are not scaled cost much at first."""
        lesson = replace(TEN, first_loss=40.0)

        assert listen(recipe(), rows([38.0, 30.0, 12.0, 2.0], [33.0, 20.0, 4.0, 1.0]), lesson) == []

    def test_a_few_bad_batches_are_no_end(self, recipe: Make) -> None:
        """Epochs of four steps, of which the middle ones lie at the highest rate of a schedule."""
        tiny = Lesson(shares=[0.5, 0.5], validation_count=5, steps=60, epochs=15)
        losses: list[float | None] = [0.7, 0.7, 0.8, 1.2, *[3.3, 4.9, 2.7, 2.4, 3.1, 2.2], 1.1, 0.5]

        assert listen(recipe(), rows(losses, [0.7] * 12, steps=4), tiny) == []
        lost: list[float | None] = [0.7, 0.8, *[5.0] * 13]
        heard = rows(lost, [5.0] * 15, val=1.0, steps=4)
        assert listen(recipe(), heard[:14], tiny) == []
        assert [one.code for one in listen(recipe(), heard, tiny)] == [DIVERGED]

    def test_a_run_of_few_steps_is_told_at_its_end(self, recipe: Make) -> None:
        short = replace(TEN, steps=20, epochs=2)
        heard = rows([99.0, 99.0], [9.0, 9.0], steps=10)

        assert listen(recipe(), heard[:1], short) == []
        assert [one.code for one in listen(recipe(), heard, short)] == [DIVERGED]

    def test_another_loss_has_its_own_scale(self, recipe: Make) -> None:
        lesson = replace(TEN, cross_entropy=False, first_loss=0.1)

        assert [one.code for one in listen(recipe(), rows([0.1, 0.3], [0.1, 0.2]), lesson)] == [
            DIVERGED
        ]
        unknown = replace(lesson, first_loss=None)
        assert listen(recipe(), rows([0.1, 0.3], [0.1, 0.2]), unknown) == []

    def test_smaller_steps_are_tried_next(self, recipe: Make) -> None:
        given = recipe(
            optimizer={"name": "SGD", "lr": 0.5, "momentum": 0.9},
            scheduler={"name": "OneCycleLR", "max_lr": 0.5},
        )

        (said,) = listen(given, rows([None], [None]))

        assert said.recipe["optimizer"] == {**given.optimizer, "lr": 0.05}
        assert said.recipe["scheduler"] == {**(given.scheduler or {}), "max_lr": 0.05}
        assert "Try next: optimizer.lr=0.05 scheduler.max_lr=0.05" in said.message

    @pytest.mark.parametrize(
        ("given", "tried"),
        [
            (
                {"optimizer": {"name": "Muon", "lr": 0.02, "adamw": {"lr": 50}}},
                "optimizer.lr=0.002 optimizer.adamw.lr=0.001 clip_grad_norm=1.0",
            ),
            (
                {"lr": 5.0, "scheduler": {"name": "CosineAnnealingLR", "eta_min": 0.2}},
                "optimizer.lr=0.001 scheduler.eta_min=0.001 clip_grad_norm=1.0",
            ),
            (
                {"lr": 0.001, "scheduler": {"name": "ReduceLROnPlateau", "min_lr": 0.0005}},
                "optimizer.lr=0.0001 scheduler.min_lr=5e-05 clip_grad_norm=1.0",
            ),
            ({"lr": 0.001, "clip_grad_norm": 0.5}, "optimizer.lr=0.0001"),
            ({"lr": 0.001, "clip_grad_norm": 8}, "optimizer.lr=0.0001 clip_grad_norm=1.0"),
        ],
    )
    def test_no_rate_stays_high_and_no_limit_is_loosened(
        self, recipe: Make, given: dict[str, Any], tried: str
    ) -> None:
        (said,) = listen(recipe(**given), rows([None], [None]))

        assert said.message.endswith(f"Try next: {tried}.")

    def test_a_rate_that_is_far_off_becomes_a_usual_one(self, recipe: Make) -> None:
        (said,) = listen(recipe(optimizer={"name": "Adam", "lr": 1000.0}), rows([None], [None]))

        assert said.recipe["optimizer"]["lr"] == 0.001
        assert said.recipe["scheduler"] is None


FLAT = rows([2.3] * 20, [2.302] * 20, train=0.11, val=0.11)


class TestNothingLearned:
    def test_after_enough_steps(self, recipe: Make) -> None:
        patience = [coach.nothing_learned(FLAT[: n + 1], TEN) for n in range(20)]

        assert patience == [False] * 6 + [True] * 14  # from step 334 on, a third of 1,000

    def test_a_short_run_is_told_at_its_end(self, recipe: Make) -> None:
        short = replace(TEN, steps=100, epochs=2)

        assert [one.code for one in listen(recipe(), FLAT[:2], short)] == [NOTHING_LEARNED]
        assert listen(recipe(), FLAT[:1], replace(short, epochs=1, steps=50)) != []
        tiny = replace(short, steps=20)
        assert listen(recipe(), rows([2.3] * 2, [2.3] * 2, val=0.1, steps=10), tiny) == []

    @pytest.mark.parametrize(("val_loss", "val"), [(2.1, 0.11), (2.3, 0.15)])
    def test_what_is_better_than_a_guess_has_learned(
        self, recipe: Make, val_loss: float, val: float
    ) -> None:
        assert listen(recipe(), rows([2.3] * 20, [val_loss] * 20, val=val)) == []

    def test_naming_the_most_frequent_class_is_a_guess(self, recipe: Make) -> None:
        lesson = replace(TEN, shares=[0.9, 0.1])
        guess = rows([0.33] * 8, [0.325] * 8, val=0.9)

        assert [one.code for one in listen(recipe(), guess, lesson)] == [NOTHING_LEARNED]
        assert listen(recipe(), rows([0.3] * 8, [0.25] * 8, val=0.9), lesson) == []

    def test_of_few_validation_images_chance_is_taken_off(self, recipe: Make) -> None:
        flat = rows([2.3] * 8, [2.3] * 8, val=0.25)

        assert listen(recipe(), flat) == []
        few = replace(TEN, validation_count=12)
        assert [one.code for one in listen(recipe(), flat, few)] == [NOTHING_LEARNED]

    def test_of_few_validation_images_it_speaks_only_if_training_is_flat_too(
        self, recipe: Make
    ) -> None:
        few = replace(TEN, validation_count=12)
        by_heart: list[float | None] = [2.3 / n for n in range(1, 9)]

        assert listen(recipe(), rows(by_heart, [2.3] * 8, val=0.1), few) == []
        assert listen(recipe(), FLAT, replace(few, cross_entropy=False)) == []
        assert [one.code for one in listen(recipe(), FLAT, few)] == [NOTHING_LEARNED]

    def test_another_rate_is_tried_next(self, recipe: Make) -> None:
        (said,) = listen(recipe(optimizer={"name": "SGD", "lr": 1e-6}), FLAT)
        assert said.recipe["optimizer"] == {"name": "Adam", "lr": 0.001}

        (said,) = listen(recipe(optimizer={"name": "Adam", "lr": 0.001}), FLAT)
        assert said.recipe["optimizer"] == {"name": "Adam", "lr": 0.0001}


TRAIN: list[float | None] = [1 / n for n in range(1, 21)]
VAL: list[float | None] = [0.6, 0.5, *(0.5 + 0.05 * n for n in range(1, 19))]


class TestOverfitting:
    def test_training_improves_while_validation_gets_worse(self, recipe: Make) -> None:
        heard = rows(TRAIN, VAL, train=0.99, val=0.8)

        (said,) = listen(recipe(), heard)

        assert said.code == OVERFITTING
        assert not coach.overfitting(heard[:6], TEN)

    @pytest.mark.parametrize(
        ("train", "val", "accuracies"),
        [
            (TRAIN, TRAIN, (0.99, 0.8)),  # both improve
            (TRAIN, VAL, (0.99, 0.95)),  # hardly anything is lost
            ([0.5] * 20, VAL, (0.99, 0.8)),  # nothing is learned by heart
            (TRAIN, [0.5, *[0.55] * 19], (0.99, 0.8)),  # a little worse is no trend
        ],
    )
    def test_otherwise_it_is_silent(
        self,
        recipe: Make,
        train: list[float | None],
        val: list[float | None],
        accuracies: tuple[float, float],
    ) -> None:
        assert listen(recipe(), rows(train, val, train=accuracies[0], val=accuracies[1])) == []

    def test_of_few_validation_images_nothing_is_said(self, recipe: Make) -> None:
        heard = rows(TRAIN, VAL, train=0.99, val=0.6)

        assert listen(recipe(), heard, replace(TEN, validation_count=49)) == []
        assert listen(recipe(), heard, replace(TEN, validation_count=50)) != []

    def test_an_end_in_time_does_not_come_before_the_best_epoch(self, recipe: Make) -> None:
        train: list[float | None] = [0.6] * 12 + [0.1] * 8
        val: list[float | None] = [0.8] * 11 + [0.5] + [0.9] * 8

        (said,) = listen(recipe(), rows(train, val, train=0.99, val=0.8))

        assert said.recipe["early_stopping"] == {"metric": "val_loss", "patience": 12}

    def test_augmentation_and_decay_are_tried_next(self, recipe: Make) -> None:
        flip = {"type": "RandomHorizontalFlip", "p": 0.5}
        given = recipe(transforms={"train": [flip]}, optimizer={"name": "AdamW", "lr": 0.001})

        (said,) = listen(given, rows(TRAIN, VAL, train=0.99, val=0.8))

        kinds = [each["type"] for each in said.recipe["transforms"]["train"]]
        assert kinds == ["RandomCrop", "RandomHorizontalFlip"]
        assert said.recipe["optimizer"]["weight_decay"] == 0.05


def test_what_has_diverged_has_not_also_learned_nothing(recipe: Make) -> None:
    heard = rows([2.3, *[99.0] * 19], [2.3] * 20, val=0.1)

    assert [one.code for one in listen(recipe(), heard)] == [DIVERGED]


def test_one_trouble_at_a_time(recipe: Make) -> None:
    """Learned by heart, and no better than a guess on the validation images."""
    shuffled = rows(TRAIN, [*[2.3] * 9, *[4.0] * 11], train=0.99, val=0.1)

    assert [one.code for one in listen(recipe(), shuffled)] == [NOTHING_LEARNED]
    hears = Coach(recipe(), TEN, said={OVERFITTING})
    assert [hears.epoch(row) for row in shuffled] == [[]] * 20
    lost = hears.tick(math.nan)
    assert lost is not None  # this is news


def test_what_was_said_is_not_said_again(recipe: Make) -> None:
    hears = Coach(recipe(), TEN, said={DIVERGED})

    assert hears.tick(math.nan) is None
    assert hears.epoch(rows([None], [None])[0]) == []


@pytest.mark.parametrize("code", coach.CODES)
def test_the_recipe_to_try_next_is_one(recipe: Make, code: str) -> None:
    for given in (recipe(), recipe(scheduler={"name": "OneCycleLR"}), recipe(lr=0.1)):
        said = Coach(given, TEN, said=set())._speak(code)

        submitted = SubmittedRecipe.model_validate(said.recipe)
        whole = recipes.resolve(submitted, FACTS)
        assert whole != given
        assert whole.seed == given.seed


@dataclass(frozen=True)
class Facts:
    name: str = "shapes"
    counts: Mapping[str, int] = field(default_factory=lambda: {"train": 64, "test": 16})
    height: int = 12
    width: int = 12
    channels: int = 1
    classes: tuple[str, ...] = ("a", "b")
    defaults: Mapping[str, Any] = field(default_factory=dict)


FACTS = Facts()


# Real runs; benchmarks/coach.py has three times as many.


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return arrays.load(
        "digits",
        root=tmp_path_factory.mktemp("datasets"),
        cache=tmp_path_factory.mktemp("cache"),
        size=(12, 12),
        channels=1,
        progress=lambda *_: None,
    )


def heard_of(
    data: DataSet, recipe: Recipe, *, shuffled: bool = False, images: int = 2000
) -> list[str]:
    """The codes of a run on the CPU."""
    train = data.parts["train"]
    labels = train.labels.copy()
    if shuffled:
        labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    cut = {n: getattr(train, n)[:images] for n in ("images", "borders", "spreads")}
    rest = {n: getattr(train, n)[images:] for n in ("images", "borders", "spreads")}
    parts = {"train": replace(train, labels=labels[:images], **cut)}
    if images < len(labels):
        parts["val"] = replace(train, labels=labels[images:], **rest)
        recipe = recipe.model_copy(update={"validation": "val"})
    data = replace(data, parts=parts)
    device = torch.device("cpu")
    run = Run(device=device, precision="fp32", normalize=None, stopped=lambda: False)
    found = split(data, recipe, device)
    torch.manual_seed(recipe.seed)
    plan = architectures.plan("mnist_net", channels=1, size=(12, 12), classes=10)
    steps = training.steps_per_epoch(len(found.train), recipe) * recipe.epochs
    begun = training.begin(architectures.build(plan), recipe, run, steps=steps)
    hears = listener(recipe, found, steps=steps, earlier=Earlier())
    events = training.fit(begun, found.train, found.validation, recipe=recipe, run=run)
    return [advice.code for event in events for advice in hears(event)]


@pytest.mark.parametrize(
    ("given", "how", "expected"),
    [
        ({"optimizer": {"name": "SGD", "lr": 1e3}, "epochs": 1}, {}, DIVERGED),
        ({"optimizer": {"name": "Adam", "lr": 1e3}, "epochs": 1}, {}, DIVERGED),
        ({"optimizer": {"name": "SGD", "lr": 0.0}, "epochs": 2}, {}, NOTHING_LEARNED),
        ({"epochs": 8}, {"shuffled": True}, NOTHING_LEARNED),
        ({"lr": 0.003, "epochs": 40, "batch_size": 16}, {"images": 60}, OVERFITTING),
    ],
)
def test_it_speaks_on_runs_made_to_fail(
    recipe: Make, digits: DataSet, given: dict[str, Any], how: dict[str, Any], expected: str
) -> None:
    assert heard_of(digits, recipe(**{"batch_size": 32, **given}), **how) == [expected]


@pytest.mark.parametrize(
    "given",
    [
        {"lr": 0.003, "scheduler": {"name": "OneCycleLR"}, "epochs": 8},
        {"optimizer": {"name": "SGD", "lr": 0.05, "momentum": 0.9}, "epochs": 6},
        {"optimizer": {"name": "AdamW", "lr": 0.002}, "epochs": 6, "seed": 3},
    ],
)
def test_it_is_silent_on_good_runs(recipe: Make, digits: DataSet, given: dict[str, Any]) -> None:
    assert heard_of(digits, recipe(**{"batch_size": 32, **given})) == []
