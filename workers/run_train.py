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

from sqlalchemy.orm import Session, sessionmaker
from torch import nn

from data_store import arrays
from data_store.parts import DataSet
from data_store.progress import Progress
from database import jobs
from models_store import checkpoints, misfits
from models_store.architectures import Plan
from models_store.fields import Normalize, Recipe
from models_store.manifest import Preprocessing
from workers import (
    compiling,
    devices,
    following,
    memory,
    outset,
    parity,
    pretraining,
    starting,
    state,
    training,
)
from workers.journal import Journal
from workers.judging import Judge
from workers.ranks import Followers
from workers.reporter import Reporter, Stop, Stopped
from workers.saver import Origin, Saver
from workers.split import Split, border, split
from workers.starting import Start
from workers.task import Task, named
from workers.training import Run, Tick, Training
from workers.watching import Watching, watch

log = logging.getLogger(__name__)

# Below this many validation images one image moves the accuracy by more than a point.
_TINY = 100


class Devices(Protocol):
    """The supervisor's side of the device that a job holds."""

    def give_up(self) -> None:
        """The job needs no device for a while."""

    def take(self) -> tuple[str, ...]:
        """Waits for a device, or as many as the job had, and returns them."""


def work(
    task: Task,
    sessions: sessionmaker[Session],
    reporter: Reporter,
    held: Devices,
    stop: Stop,
    followers: Followers,
) -> str:
    """Does the whole job. Returns why it ended, one of the contract's `stop_reason`.

    Raises `Problem`, and `Stopped` when told to stop.
    """
    recipe, measured, warned = _begin(task, sessions, followers)
    journal = Journal(sessions, task.fence, reporter, recipe, metrics=measured)
    holding = _Holding(task, sessions, held, _progress(journal, stop))
    weights = pretraining.obtain(recipe, task, holding, warn=journal.warn, warned=warned)
    data = _load(task, recipe, holding, stop)
    device = devices.choose(recipe.device, holding.device)
    devices.bound(device, task.gpu_share)
    parts = split(data, recipe, device, warn=journal.warn)
    _describe(journal, recipe, data, parts)

    group = following.summon(followers, recipe, holding.devices, data=data, run=task.run)
    run_with = outset.run(recipe, data, parts, device, stopped=stop, warn=journal.notice).shared(
        group
    )
    planned = outset.plan(recipe, data)
    start = starting.obtain(recipe, task, planned, data.classes, warn=journal.notice)
    network = outset.build(planned, recipe.seed, run_with, parts.train)
    origin = _origin(recipe, data, planned, run_with)
    saver = Saver(task.checkpoints, sessions, task.fence, recipe=recipe, origin=origin)
    begun = training.begin(network, recipe, run_with, steps=outset.steps(parts, recipe, network))
    _take_up(begun, task, recipe, saver, weights or start)
    following.meet(followers, begun, task.run, stop)
    keeper = state.Keeper(task.run)
    watching = watch(task, sessions, journal, begun, recipe, parts)
    journal.training(
        begun.last_step(recipe.epochs),
        done=begun.step,
        epoch=begun.epoch,
        seconds=begun.limits.left(),
    )
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
    following.disband(followers, group, task.run)
    if stop():
        raise Stopped
    journal.evaluating()
    judge = Judge(data, parts, recipe, run_with, task.datasets)
    _judge(judge, network, saver, journal, watching)
    return _why_it_ended(begun, task, recipe)


def _why_it_ended(begun: Training, task: Task, recipe: Recipe) -> str:
    if begun.limits.ended:
        state.settle(task.run, begun)
        return begun.limits.ended
    return "completed" if begun.epoch == recipe.epochs else "finished_early"


def _judge(
    judge: Judge, network: nn.Module, saver: Saver, journal: Journal, watching: Watching
) -> None:
    best = saver.best()
    judged = judge.judge(network, best)
    watching.tested(judged.measured)
    proof = judged.parity
    saver.prove(best.name, passed=None if proof is None else proof.passed)
    if proof is not None and not proof.passed:
        journal.notice("parity_failed", parity.told(best.name, proof))


def _take_up(
    begun: Training, task: Task, recipe: Recipe, saver: Saver, weights: Path | Start | None
) -> None:
    """Goes on where an earlier attempt was; where its state is not there, from its last checkpoint
    with a fresh optimizer; at the very beginning from pretrained `weights` or another checkpoint,
    if there is any.
    """
    saver.check_classes()
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
    task: Task, sessions: sessionmaker[Session], followers: Followers
) -> tuple[Recipe, dict[str, float | None] | None, list[dict[str, Any]]]:
    """What is to be done, and what an earlier attempt measured and warned of. Sets the process up
    for it before anything touches the device.
    """
    with sessions.begin() as session:
        row = jobs.get(session, task.fence.job_id)
        if not jobs.start(session, task.fence, pid=os.getpid(), device=named(task.devices)):
            raise Stopped
        recipe = Recipe.model_validate(row.recipe)
        if recipe.deterministic:
            devices.repeat_to_the_bit()
        if recipe.compile:
            compiling.keep_in(task.compiled)
        metrics, warnings = row.metrics, row.warnings
    following.check(recipe, followers)
    return recipe, metrics, warnings


class _Holding:
    """The held device, with what the job's row says of it."""

    def __init__(
        self, task: Task, sessions: sessionmaker[Session], held: Devices, progress: Progress
    ) -> None:
        self._task, self._sessions, self._held = task, sessions, held
        self.devices = task.devices
        self.progress = progress

    @property
    def device(self) -> str:
        """Of this process."""
        return self.devices[0]

    @contextlib.contextmanager
    def given_up(self) -> Iterator[None]:
        """Others may have the device meanwhile. What fails or stops inside needs none any more."""
        self._held.give_up()
        self._note(None)
        yield
        self.devices = self._held.take()
        self._note(named(self.devices))

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


def _load(task: Task, recipe: Recipe, holding: _Holding, stop: Stop) -> DataSet:
    """The decoded data set; while it is downloaded, others may have the device."""
    local = arrays.is_local(recipe.dataset, task.datasets)
    with contextlib.nullcontext() if local else holding.given_up():
        data = outset.load(task, recipe, holding.progress)
    memory.give_back()  # what the files of the set were listed in
    if stop():
        raise Stopped
    return data


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
    if data.stream is not None and data.stream.why:
        journal.warn(
            "images_streamed",
            f"{data.stream.why} So they are read and decoded in each epoch anew, which is slower.",
        )
    if schedule := misfits.schedule_length(recipe, images=len(parts.train)):
        journal.warn("schedule_length", schedule)
    journal.describe(data.version)


def _origin(recipe: Recipe, data: DataSet, planned: Plan, run_with: Run) -> Origin:
    return Origin(
        architecture=planned.architecture,
        classes=data.classes,
        dataset={"name": data.name, "version": data.version},
        preprocessing=_preprocessing(recipe, data, run_with.normalize),
        made_with=run_with.made_with() | {"data_loader.mode": data.mode},
    )


def _preprocessing(recipe: Recipe, data: DataSet, normalize: Normalize | None) -> Preprocessing:
    height, width = recipe.size
    return Preprocessing(
        height=height,
        width=width,
        channels=recipe.channels,
        transforms=recipe.transforms.shaping,
        normalize=normalize,
        invert_from_border=border(data, recipe),
        trained_height=data.height,
        trained_width=data.width,
    )
