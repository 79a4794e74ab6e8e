"""Who hears of a tick and of an epoch, and what a next attempt knows of the last."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy.orm import Session, sessionmaker
from torch import nn

from database import history, jobs
from database.jobs import Fence
from models_store.recipe import Recipe
from workers import training
from workers.journal import Journal
from workers.reporter import Reporter, Stop
from workers.split import Split
from workers.task import Task
from workers.training import EpochEnd, Metrics, Run, Samples, Tick
from workers.watching import Earlier, Watching, listener, watch

Sessions = sessionmaker[Session]
CPU = torch.device("cpu")


def samples(count: int) -> Samples:
    pixels = torch.randint(0, 255, (count, 6, 6, 1), dtype=torch.uint8)
    return Samples(pixels, torch.arange(count) % 2, torch.arange(count))


PARTS = Split(samples(40), samples(20), None)


class Attempt:
    """What watches one attempt of a job."""

    def __init__(self, sessions: Sessions, fence: Fence, recipe: Recipe, runs: Path) -> None:
        task = Task(fence, "train", "cpu", "", runs, runs, runs, runs, runs, runs)
        self.journal = Journal(sessions, fence, Reporter(sessions, fence, Stop()), recipe)
        self.journal.describe("v1")
        run = Run(device=CPU, precision="fp32", normalize=None, stopped=lambda: False)
        self.network = nn.Linear(2, 2)
        begun = training.begin(self.network, recipe, run, steps=40)
        self.watching: Watching = watch(task, sessions, self.journal, begun, recipe, PARTS)
        self.journal.training(40)


@pytest.fixture
def attempt(
    sessions: Sessions, recipe: Callable[..., Recipe], tmp_path: Path
) -> Callable[..., Attempt]:
    def attempt(fence: Fence, **given: Any) -> Attempt:
        return Attempt(sessions, fence, recipe(epochs=4, **given), tmp_path)

    return attempt


def tick(step: int, loss: float = 0.7) -> Tick:
    return Tick(step, 1, Metrics(loss, 0.5), 0.01, 10.0)


def epoch(number: int, train: float = 0.6, val: float = 0.6) -> EpochEnd:
    return EpochEnd(number, 10 * number, Metrics(train, 0.5), Metrics(val, 0.5), 0.01, 1.0, 10.0)


def curves(run: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run), size_guidance={"images": 0})
    found.Reload()
    return found


def test_journal_and_tensorboard_hear_the_same(
    attempt: Callable[..., Attempt], running: Fence, sessions: Sessions, tmp_path: Path
) -> None:
    hears = attempt(running).watching
    hears.tick(tick(1))
    hears.epoch(epoch(1))
    hears.epoch(epoch(2, train=0.5))
    hears.tested(Metrics(0.4, 0.9))

    with sessions() as session:
        assert [row.train_loss for row in history.epochs(session, running.job_id)] == [0.6, 0.5]
    shown = curves(tmp_path / running.job_id)
    assert [one.step for one in shown.Scalars("loss/train")] == [10, 20]
    assert [one.step for one in shown.Scalars("accuracy/test")] == [20]
    assert shown.Tags()["images"] == ["samples"]
    assert len(shown.Images("samples")) == 1  # once
    assert shown.Tags()["histograms"] == []


def test_samples_are_augmented_and_the_training_draws_as_before(
    attempt: Callable[..., Attempt], running: Fence, tmp_path: Path
) -> None:
    before = torch.get_rng_state()
    given = {"transforms": {"train": [{"type": "RandomCrop", "padding": 2}]}}
    hears = attempt(running, **given, tensorboard={"histograms": True})
    drawn = torch.get_rng_state()
    hears.watching.epoch(epoch(1))

    shown = curves(tmp_path / running.job_id).Tags()
    assert shown["images"] == ["samples", "samples_augmented"]
    assert shown["histograms"] == ["weight", "bias"]
    assert torch.equal(torch.get_rng_state(), drawn)
    torch.set_rng_state(before)


def test_advice_is_given_once_in_the_life_of_a_job(
    attempt: Callable[..., Attempt],
    running: Fence,
    sessions: Sessions,
    job: Callable[[Fence], jobs.Job],
) -> None:
    first = attempt(running).watching
    first.tick(tick(1))
    first.tick(tick(2, math.nan))
    first.epoch(epoch(1, math.nan, math.nan))
    assert [one["code"] for one in job(running).warnings] == ["loss_diverged"]

    with sessions.begin() as session:
        jobs.release(session, running)
        again = jobs.claim(session, worker_id="w2", host="here", device="cpu")
        assert again is not None
        fence = jobs.fence_of(again)
    second = attempt(fence).watching
    second.epoch(epoch(2, math.nan, math.nan))

    assert [one["code"] for one in job(fence).warnings] == ["loss_diverged"]


def test_a_next_attempt_knows_what_was_measured(sessions: Sessions, running: Fence) -> None:
    with sessions.begin() as session:
        for step, loss in ((1, 2.5), (40, 1.0)):
            values = {"step": step, "epoch": 1, "train_loss": loss, "lr": 0.1}
            history.add_step(session, running, values)
        history.add_epoch(session, running, {"epoch": 1, "train_loss": 0.5, "val_loss": math.nan})

    with sessions() as session:
        earlier = Earlier.of(session, jobs.get(session, running.job_id))

    assert earlier.first_loss == 2.5
    assert [(row.epoch, row.train_loss, row.val_loss) for row in earlier.rows] == [(1, 0.5, None)]
    assert earlier.said == frozenset()


def test_the_coach_knows_how_frequent_each_class_is(recipe: Callable[..., Recipe]) -> None:
    parts = Split(samples(40), samples(20), None)
    parts.train.labels[:38] = 1  # naming it is right 19 times of 20

    assert heard(recipe(epochs=1), parts, Metrics(0.21, 0.95)) == ["nothing_learned"]


@pytest.mark.parametrize(
    ("given", "loss", "accuracy", "said"),
    [
        ({"class_weights": "balanced"}, 0.55, 0.8, []),  # ln 2 is a guess: both count alike
        ({"class_weights": "balanced"}, 0.69, 0.9, ["nothing_learned"]),
        ({"class_weights": [9.0, *[1.0] * 9]}, 0.55, 0.8, []),
        ({"loss": {"weight": [1.0] * 10}}, 0.32, 0.9, ["nothing_learned"]),
    ],
)
def test_a_guess_is_weighed_as_the_loss_is(
    recipe: Callable[..., Recipe],
    given: dict[str, Any],
    loss: float,
    accuracy: float,
    said: list[str],
) -> None:
    parts = Split(samples(40), samples(60), None)
    parts.train.labels[:36] = 1
    parts.train.labels[36:] = 0

    assert heard(recipe(epochs=1, **given), parts, Metrics(loss, accuracy)) == said


def test_images_that_are_ignored_are_not_guessed(recipe: Callable[..., Recipe]) -> None:
    parts = Split(samples(40), samples(60), None)
    parts.train.labels[:30] = 2

    ignoring = recipe(epochs=1, loss={"ignore_index": 2})
    assert heard(ignoring, parts, Metrics(0.69, 0.55)) == ["nothing_learned"]
    assert heard(ignoring, parts, Metrics(0.6, 0.75)) == []


def heard(recipe: Recipe, parts: Split, measured: Metrics) -> list[str]:
    """What the coach says at the end of a run of one epoch."""
    hears = listener(recipe, parts, steps=60, earlier=Earlier())
    end = EpochEnd(1, 60, measured, measured, 0.01, 1.0, 10.0)
    return [one.code for one in hears(end)]
