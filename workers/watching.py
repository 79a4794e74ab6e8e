"""Everyone who hears what the training loop says: the journal, TensorBoard's file, the coach.

Passes events on and keeps nothing itself.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from sqlalchemy.orm import Session, sessionmaker

from database import history, jobs
from database.tables import Epoch, Job
from models_store.fields import Recipe
from models_store.pipeline import stages
from workers import losses
from workers.augmentation.augment import augment
from workers.board import Board
from workers.coach import CODES, Advice, Coach, Lesson, Row
from workers.journal import Journal
from workers.split import Split
from workers.task import Task
from workers.training import EpochEnd, Metrics, Tick, Training

Event = Tick | EpochEnd
Listener = Callable[[Event], list[Advice]]


class Watching:
    """Those who watch one attempt."""

    def __init__(
        self, journal: Journal, board: Board, coach: Listener, recipe: Recipe, parts: Split
    ) -> None:
        self._journal, self._board, self._coach = journal, board, coach
        self._recipe, self._parts = recipe, parts
        self._sampled = False

    def tick(self, tick: Tick) -> None:
        """A look in the middle of an epoch."""
        self._journal.tick(tick)
        self._board.tick(tick)
        self._advise(tick)

    def epoch(self, end: EpochEnd) -> None:
        """A finished epoch. Raises `Stopped` when another worker has the job by now."""
        self._journal.epoch(end, len(self._parts.validation))
        self._board.epoch(end)
        self._advise(end)
        if not self._sampled:  # not before the first step, which they would hold back
            self._sampled = True
            self._samples()

    def tested(self, measured: Metrics | None) -> None:
        """How the best checkpoint does on the test part; None where there is none."""
        if measured is not None:
            self._journal.tested(measured)
            self._board.tested(measured)

    def _advise(self, event: Event) -> None:
        for advice in self._coach(event):
            self._journal.advise(advice)

    def _samples(self) -> None:
        """Draws from a generator of its own: the training's are left as they are."""
        train = self._parts.train
        transforms, _ = stages(self._recipe.transforms.train)
        chance = torch.Generator(device=train.pixels.device).manual_seed(self._recipe.seed)
        changed = partial(augment, transforms=transforms, generator=chance)
        self._board.samples(train, changed if transforms else None)


def watch(
    task: Task,
    sessions: sessionmaker[Session],
    journal: Journal,
    begun: Training,
    recipe: Recipe,
    parts: Split,
) -> Watching:
    """Those who watch the attempt that `begun` is about to go on with."""
    with sessions() as session:
        earlier = Earlier.of(session, jobs.get(session, task.fence.job_id))
    board = Board(
        task.run,
        number=task.fence.claim,
        step=begun.step,
        weights=begun.network if recipe.tensorboard.histograms else None,
        on_trouble=journal.notice,
    )
    coach = listener(recipe, parts, steps=begun.steps, earlier=earlier)
    return Watching(journal, board, coach, recipe, parts)


@dataclass(frozen=True, slots=True)
class Earlier:
    """What earlier attempts of a job left to the coach: what it `said`, and what was measured."""

    said: frozenset[str] = frozenset()
    rows: tuple[Row, ...] = ()
    first_loss: float | None = None

    @classmethod
    def of(cls, session: Session, job: Job) -> Self:
        """From the rows of a job."""
        first = history.steps(session, job.id, max_points=2)[:1]
        return cls(
            said=frozenset(warning["code"] for warning in job.warnings) & frozenset(CODES),
            rows=tuple(map(_row, history.curve(session, job.id))),
            first_loss=first[0].train_loss if first else None,
        )


def listener(recipe: Recipe, parts: Split, *, steps: int, earlier: Earlier) -> Listener:
    """The coach of one job, as who hears every event and answers with advice."""
    labels = parts.train.labels[parts.train.index]
    counts = torch.bincount(labels)
    classes = torch.arange(len(counts), device=counts.device)
    loss = losses.build(recipe.loss, recipe.class_weights, labels, classes=len(counts))
    lesson = Lesson(
        shares=_shares(counts * loss.counted(classes)),
        weighed=_shares(counts * loss.weights(classes)),
        validation_count=len(parts.validation),
        steps=steps,
        epochs=recipe.epochs,
        cross_entropy=recipe.loss["name"] == "CrossEntropyLoss",
        first_loss=earlier.first_loss,
    )
    coach = Coach(recipe, lesson, said=set(earlier.said), rows=earlier.rows)

    def hear(event: Event) -> list[Advice]:
        if isinstance(event, EpochEnd):
            return coach.epoch(_row(event))
        advice = coach.tick(event.metrics.loss)
        return [] if advice is None else [advice]

    return hear


def _shares(counts: torch.Tensor) -> list[float]:
    shares: list[float] = (counts / counts.sum()).tolist()
    return shares


def _row(of: Epoch | EpochEnd) -> Row:
    if isinstance(of, Epoch):
        return Row(of.epoch, 0, of.train_loss, of.train_accuracy, of.val_loss, of.val_accuracy)
    return Row(
        of.epoch,
        of.step,
        _finite(of.train.loss),
        of.train.accuracy,
        _finite(of.validation.loss),
        of.validation.accuracy,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
