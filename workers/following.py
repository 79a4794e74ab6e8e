"""Both sides of a training on several devices: how its first process has the others begin, and
what these do.

They load what it has decoded, take its state over from a file, and then go through the same
training. Only the first one writes: rows, checkpoints, its own state.
"""

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from data_store.parts import DataSet
from models_store import misfits
from models_store.fields import Recipe
from problems import Problem
from workers import compiling, devices, outset, processes, state, training
from workers.group import Group
from workers.ranks import READY, Followers
from workers.reporter import Stopped
from workers.split import split
from workers.task import Task
from workers.training import Training

log = logging.getLogger(__name__)

# Transforms that take long: of an image that another process needs, they are not made as well.
_SLOW = frozenset({"AutoAugment", "ColorJitter", "RandAugment", "TrivialAugmentWide"})


@dataclass(frozen=True, slots=True)
class Orders:
    """What a follower is to do: `recipe` on `device`, with images of this `version`. All draw
    `alike`, the same numbers for whole batches, or each its own.
    """

    recipe: Recipe
    device: str
    size: int
    version: str
    alike: bool


def check(recipe: Recipe, followers: Followers) -> None:
    """Raises `Problem` device_unavailable when the recipe wants more devices than there are."""
    if recipe.devices == 1 + len(followers):
        return
    there = misfits.devices_there(recipe.device, devices.found(), cores=devices.cores())
    raise misfits.too_many_devices(recipe, there)


def summon(
    followers: Followers, recipe: Recipe, held: Sequence[str], *, data: DataSet, run: Path
) -> Group:
    """Has the followers get ready, while the first process does, too; alone it stays alone. `held`
    are the devices of all, in order.
    """
    if not followers:
        return Group()
    shutil.rmtree(_folder(run), ignore_errors=True)  # an earlier attempt's
    _folder(run).mkdir()
    alike = _draw_alike(recipe, data)
    # What the first one has found to fit is what all do.
    loader = recipe.data_loader.model_copy(update={"mode": data.mode})
    recipe = recipe.model_copy(update={"data_loader": loader})
    for words, device in zip(followers.words, held[1:], strict=True):
        words.send(Orders(recipe, device, len(held), data.version, alike))
    return Group(0, len(held), words=followers.words, alike=alike)


def meet(followers: Followers, begun: Training, run: Path, stop: Callable[[], bool]) -> None:
    """All come to where the first process is. Raises `Stopped` when told to stop meanwhile."""
    if not followers:
        return
    if not followers.wait(stop):
        raise Stopped
    folder = _folder(run)
    state.keep(folder, begun)
    begun.group.join(begun.device, folder)
    _all_have_it(begun)
    shutil.rmtree(folder / state.FOLDER)
    log.info("%d processes share each batch", begun.group.size)


def disband(followers: Followers, group: Group, run: Path) -> None:
    """The training is over: what is left to do is done by the first process alone."""
    followers.end()
    group.leave()
    shutil.rmtree(_folder(run), ignore_errors=True)


def work(task: Task, rank: int, words: Connection) -> None:
    """All that a follower does. What goes wrong is told to the first process, which ends both."""
    try:
        orders: Orders = words.recv()
        processes.log_to(task.run / "log.txt")
        _follow(task, orders, rank, words)
        words.recv()  # there is nothing more to come but the end
    except (EOFError, ConnectionError):
        log.info("process %d ends with the first one", rank)
    except Exception as error:
        from workers import run_job

        log.exception("process %d failed", rank)
        words.send(asdict(run_job.failed(error)))


def _follow(task: Task, orders: Orders, rank: int, words: Connection) -> None:
    recipe = orders.recipe
    if recipe.deterministic:
        devices.repeat_to_the_bit()
    if recipe.compile:
        compiling.keep_in(task.compiled)
    data = outset.load(task, recipe, lambda *_: None)
    if data.version != orders.version:
        raise Problem("job_failed", f"{recipe.dataset} has changed while the job began.")
    device = devices.choose(recipe.device, orders.device)
    devices.bound(device, task.gpu_share)
    parts = split(data, recipe, device)
    group = Group(rank, orders.size, words=[words], alike=orders.alike)
    run = outset.run(
        recipe, data, parts, device, stopped=lambda: False, warn=lambda *_: None
    ).shared(group)
    network = outset.build(outset.plan(recipe, data), recipe.seed, run, parts.train)
    begun = training.begin(network, recipe, run, steps=outset.steps(parts, recipe, network))
    words.send(READY)
    _take_over(begun, orders, _folder(task.run))
    for _ in training.fit(begun, parts.train, parts.validation, recipe=recipe, run=run):
        pass


def _take_over(begun: Training, orders: Orders, folder: Path) -> None:
    """The state of the first process; but what each draws for itself is not to be the same."""
    begun.group.join(begun.device, folder)
    if not state.restore(folder, begun):
        raise Problem("job_failed", "The state of the first process could not be read.")
    _all_have_it(begun)
    own = (orders.recipe.seed * 1_000_003 + begun.step * 1009 + begun.group.rank) % 2**63
    torch.manual_seed(own)
    if not orders.alike:
        begun.chance.manual_seed(own)


def _all_have_it(begun: Training) -> None:
    """Waits until all processes are here."""
    float(begun.group.sum(torch.zeros(1, device=begun.device)))


def _draw_alike(recipe: Recipe, data: DataSet) -> bool:
    """Whether all prepare whole batches, and so come to the images that one device would. What has
    to be read and decoded each time is not read for another process.
    """
    held = data.stream is None
    return held and _SLOW.isdisjoint(one.type for one in recipe.transforms.train)


def _folder(run: Path) -> Path:
    return run / "group"
