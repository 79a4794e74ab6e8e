"""One training job from its row to its last checkpoint, inside a child of its own.

The one place where row, data set, training and store meet. Knows nothing of processes: it is told
to stop through `Stop` and asks for its device through `Devices`.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from sqlalchemy.orm import Session, sessionmaker

from data_store import arrays, catalog
from data_store.parts import DataSet
from data_store.progress import Progress
from database import jobs
from models_store import architectures, checkpoints, misfits, preprocess
from models_store.architectures import Plan
from models_store.fields import Normalize, Recipe
from models_store.layers import label
from models_store.manifest import Preprocessing
from models_store.recipe import check_batches
from problems import Problem
from workers import devices, losses, pretraining, starting, state, training, whitened
from workers.journal import Journal
from workers.judging import Judge
from workers.reporter import Reporter, Stop, Stopped
from workers.saver import Origin, Saver
from workers.split import Split, split
from workers.starting import Start
from workers.task import Task
from workers.training import Run, Tick, Training
from workers.watching import watch

log = logging.getLogger(__name__)

# Below this many validation images one image moves the accuracy by more than a point.
_TINY = 100


class Devices(Protocol):
    """The supervisor's side of the device that a job holds."""

    def give_up(self) -> None:
        """The job needs no device for a while."""

    def take(self) -> str:
        """Waits for a device and returns it."""


def work(
    task: Task,
    sessions: sessionmaker[Session],
    reporter: Reporter,
    held: Devices,
    stop: Stop,
) -> str:
    """Does the whole job. Returns why it ended, one of the contract's `stop_reason`.

    Raises `Problem`, and `Stopped` when told to stop.
    """
    recipe, measured, warned = _begin(task, sessions)
    journal = Journal(sessions, task.fence, reporter, recipe, metrics=measured)
    holding = _Holding(task, sessions, held, _progress(journal, stop))
    weights = pretraining.obtain(recipe, task, holding, warn=journal.warn, warned=warned)
    data = _load(task, recipe, holding)
    if stop():
        raise Stopped
    device = devices.choose(recipe.device, holding.device)
    parts = split(data, recipe, device, warn=journal.warn)
    _describe(journal, recipe, data, parts)

    run_with = _run_with(recipe, data, parts, device, stop, journal)
    planned = architectures.plan(
        recipe.architecture,
        channels=recipe.channels,
        size=recipe.input_size,
        classes=len(data.classes),
    )
    start = starting.obtain(recipe, task, planned, data.classes, warn=journal.notice)
    network = _build(planned, recipe.seed, run_with)
    whitened.begin(network, planned, parts.train, run_with)
    origin = Origin(
        architecture=planned.architecture,
        classes=data.classes,
        dataset={"name": data.name, "version": data.version},
        preprocessing=_preprocessing(task, recipe, data, run_with.normalize),
        made_with=run_with.made_with(),
    )
    saver = Saver(task.checkpoints, sessions, task.fence, recipe=recipe, origin=origin)
    begun = training.begin(network, recipe, run_with, steps=_steps(parts, recipe, network))
    _take_up(begun, task, recipe, saver, weights or start)
    keeper = state.Keeper(task.run)
    watching = watch(task, sessions, journal, begun, recipe, parts)
    left = (recipe.epochs - begun.epoch) * (begun.steps // recipe.epochs)
    journal.training(begun.step + left, done=begun.step, epoch=begun.epoch)
    for event in training.fit(begun, parts.train, parts.validation, recipe=recipe, run=run_with):
        if isinstance(event, Tick):
            watching.tick(event)
            continue
        watching.epoch(event)
        over = event.stop_reason is not None or event.epoch == recipe.epochs
        finishing = reporter.finishing or over
        if finishing or event.epoch % recipe.checkpoints.every_epochs == 0:
            saver.save(network, event, journal.metrics())
            keeper.keep(begun, last=finishing)
        if finishing:
            break
    if stop():
        raise Stopped
    journal.evaluating()
    judge = Judge(data, parts, recipe, run_with, task.datasets)
    watching.tested(judge.judge(network, saver.best()))
    return _why_it_ended(begun, task, recipe)


def _why_it_ended(begun: Training, task: Task, recipe: Recipe) -> str:
    if begun.limits.ended:
        state.settle(task.run, begun)
        return begun.limits.ended
    return "completed" if begun.epoch == recipe.epochs else "finished_early"


def _run_with(
    recipe: Recipe, data: DataSet, parts: Split, device: torch.device, stop: Stop, journal: Journal
) -> Run:
    labels = parts.train.labels[parts.train.index]
    loss = losses.build(recipe.loss, recipe.class_weights, labels, classes=len(data.classes))
    precision = devices.precision(recipe.precision, device)
    devices.set_up(precision, device, deterministic=recipe.deterministic)
    return Run(
        device=device,
        precision=precision,
        normalize=_normalize(recipe, data),
        stopped=stop,
        transforms=recipe.transforms.shaping,
        classes=len(data.classes),
        loss=loss,
        warn=journal.notice,
    )


def _take_up(
    begun: Training, task: Task, recipe: Recipe, saver: Saver, weights: Path | Start | None
) -> None:
    """Goes on where an earlier attempt was; where its state is not there, from its last checkpoint
    with a fresh optimizer; at the very beginning from pretrained `weights` or another checkpoint,
    if there is any.
    """
    if state.restore(task.run, begun):
        if state.is_settled(task.run, begun):
            begun.limits.renew()
        log.info("goes on after epoch %d", begun.epoch)
    elif (saved := saver.newest()) is not None:
        begun.epoch, folder = saved
        begun.step = begun.epoch * (begun.steps // recipe.epochs)
        saved_weights = checkpoints.read_state(folder, checkpoints.read_manifest(folder))
        begun.network.load_state_dict(saved_weights)
        if begun.scheduler is not None:
            begun.scheduler.advance(begun.epoch)
        log.info("goes on after epoch %d with a fresh optimizer", begun.epoch)
    elif isinstance(weights, Start):
        weights.fill(begun.network)
    elif weights is not None:
        pretraining.load(begun.network, recipe, weights)
        log.info("starts from %s", weights.name)


def _begin(
    task: Task, sessions: sessionmaker[Session]
) -> tuple[Recipe, dict[str, float | None] | None, list[dict[str, Any]]]:
    """What is to be done, and what an earlier attempt measured and warned of. Sets the process up
    for it before anything touches the device.
    """
    with sessions.begin() as session:
        row = jobs.get(session, task.fence.job_id)
        if not jobs.start(session, task.fence, pid=os.getpid(), device=task.device):
            raise Stopped
        recipe = Recipe.model_validate(row.recipe)
        if recipe.deterministic:
            devices.repeat_to_the_bit()
        return recipe, row.metrics, row.warnings


class _Holding:
    """The held device, with what the job's row says of it."""

    def __init__(
        self, task: Task, sessions: sessionmaker[Session], held: Devices, progress: Progress
    ) -> None:
        self._task, self._sessions, self._held = task, sessions, held
        self.device = task.device
        self.progress = progress

    @contextlib.contextmanager
    def given_up(self) -> Iterator[None]:
        """Others may have the device meanwhile. What fails or stops inside needs none any more."""
        self._held.give_up()
        self._note(None)
        yield
        self.device = self._held.take()
        self._note(self.device)

    def _note(self, device: str | None) -> None:
        with self._sessions.begin() as session:
            jobs.assign(session, self._task.fence, device=device)


def _progress(journal: Journal, stop: Stop) -> Progress:
    """Carries on how far loading is; raises `Stopped` out of it when told to stop."""

    def progress(phase: str, done: int, total: int) -> None:
        if stop():
            raise Stopped
        journal.loading(phase, done, total)

    return progress


def _load(task: Task, recipe: Recipe, holding: _Holding) -> DataSet:
    """The decoded data set; while it is downloaded, others may have the device."""
    workers = recipe.data_loader.num_workers
    local = arrays.is_local(recipe.dataset, task.datasets)
    with contextlib.nullcontext() if local else holding.given_up():
        return arrays.load(
            recipe.dataset,
            root=task.datasets,
            cache=task.cache,
            size=recipe.size,
            channels=recipe.channels,
            progress=holding.progress,
            threads=None if workers == "auto" else workers,
            mirrors=task.mirrors,
        )


def _describe(journal: Journal, recipe: Recipe, data: DataSet, parts: Split) -> None:
    count = len(parts.validation)
    if recipe.validation == "test":
        journal.warn(
            "chosen_on_test",
            "The best checkpoint is chosen on the test images, so their accuracy flatters it.",
        )
    if count < _TINY:
        journal.warn(
            "validation_tiny",
            f"With {count} validation images each one moves the accuracy by "
            f"{100 / count:.1f} points.",
        )
    if data.mended:
        journal.warn(
            "cache_damaged",
            f"The decoded images were damaged ({data.mended}) and have been decoded anew. If that "
            "happens again, the disk may be failing.",
        )
    if data.skipped:
        named = ", ".join(one.file for one in data.skipped[:5])
        more = f" and {len(data.skipped) - 5} more" if len(data.skipped) > 5 else ""
        journal.warn("unreadable_images", f"Left out, because unreadable: {named}{more}.")
    if schedule := misfits.schedule_length(recipe, images=len(parts.train)):
        journal.warn("schedule_length", schedule)
    journal.describe(data.version)


def _normalize(recipe: Recipe, data: DataSet) -> Normalize | None:
    if recipe.normalize == "auto":
        return preprocess.measure_normalize(data.parts["train"].images)
    return recipe.normalize


def _preprocessing(
    task: Task, recipe: Recipe, data: DataSet, normalize: Normalize | None
) -> Preprocessing:
    facts = catalog.facts(data.name, task.datasets)
    border = None
    if recipe.invert == "auto":
        border = preprocess.measure_border(data.parts["train"].borders)
    height, width = recipe.size
    return Preprocessing(
        height=height,
        width=width,
        channels=recipe.channels,
        transforms=recipe.transforms.shaping,
        normalize=normalize,
        invert_from_border=border,
        trained_height=facts.height,
        trained_width=facts.width,
    )


def _steps(parts: Split, recipe: Recipe, network: torch.nn.Module) -> int:
    """Of the whole run. Who resolved the recipe did not know that some images are unreadable."""
    least = training.smallest_batch(network)
    if least > 1:
        check_batches(recipe, len(parts.train))
    steps = training.steps_per_epoch(len(parts.train), recipe, least=least)
    if steps == 0:
        raise Problem(
            "invalid_request",
            f"drop_last leaves no batch of {recipe.batch_size}: there are {len(parts.train)} "
            "training images.",
            hint="Give a smaller batch_size, or drop_last: false.",
        )
    return steps * recipe.epochs


def _build(planned: Plan, seed: int, run_with: Run) -> torch.nn.Module:
    torch.manual_seed(seed)  # the last thing before the weights are drawn
    network = architectures.build(planned)
    log.info("%s on %s in %s", label(planned.architecture), run_with.device, run_with.precision)
    return network.to(run_with.device).to(memory_format=torch.channels_last)
