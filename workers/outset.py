"""What a training begins with, the same in every process that has a part in it: how the machine
computes, the network with its first weights, how many steps there are.

Comes from a recipe and its images alone. Knows nothing of jobs.
"""

import logging
from collections.abc import Callable

import torch

from data_store import arrays
from data_store.parts import DataSet
from data_store.progress import Progress
from models_store import architectures, preprocess
from models_store.architectures import Plan
from models_store.fields import Normalize, Recipe
from models_store.layers import label
from models_store.recipe import check_batches
from problems import Problem
from workers import devices, losses, memory, training, whitened
from workers.batches import Samples
from workers.split import Split
from workers.task import Task
from workers.training import Run

log = logging.getLogger(__name__)


def load(task: Task, recipe: Recipe, progress: Progress) -> DataSet:
    """The data set, its images mapped or streamed. Raises what `data_store.arrays.load` raises."""
    processes = recipe.data_loader.num_workers
    return arrays.load(
        recipe.dataset,
        root=task.datasets,
        cache=task.cache,
        size=recipe.size,
        channels=recipe.channels,
        progress=progress,
        processes=None if processes == "auto" else processes,
        mirrors=task.mirrors,
        mode=recipe.data_loader.mode,
        budget_bytes=memory.for_images(),
    )


def run(
    recipe: Recipe,
    data: DataSet,
    parts: Split,
    device: torch.device,
    *,
    stopped: Callable[[], bool],
    warn: Callable[[str, str], object],
) -> Run:
    """What the recipe leaves to the machine, which is set up for it, and to the images. Raises
    `Problem` device_unavailable.
    """
    # Where the images are not on the device, their labels are not there either.
    labels = parts.train.labels[parts.train.index].to(device)
    loss = losses.build(recipe.loss, recipe.class_weights, labels, classes=len(data.classes))
    precision = devices.precision(recipe.precision, device)
    devices.set_up(precision, device, deterministic=recipe.deterministic)
    return Run(
        device=device,
        precision=precision,
        normalize=_normalize(recipe, data),
        stopped=stopped,
        transforms=recipe.transforms.shaping,
        classes=len(data.classes),
        loss=loss,
        warn=warn,
    )


def plan(recipe: Recipe, data: DataSet) -> Plan:
    """Raises `Problem` network_misfit, layers_misfit."""
    return architectures.plan(
        recipe.architecture,
        channels=recipe.channels,
        size=recipe.input_size,
        classes=len(data.classes),
    )


def build(planned: Plan, seed: int, run: Run, train: Samples) -> torch.nn.Module:
    """The network with its first weights, on its device; some begin with what `train` is like."""
    torch.manual_seed(seed)  # the last thing before the weights are drawn
    network = architectures.build(planned)
    log.info("%s on %s in %s", label(planned.architecture), run.device, run.precision)
    network = network.to(run.device).to(memory_format=torch.channels_last)
    whitened.begin(network, planned, train, run)
    return network


def steps(parts: Split, recipe: Recipe, network: torch.nn.Module) -> int:
    """Of the whole run. Who resolved the recipe did not know that some images are unreadable.

    Raises `Problem` invalid_request where there are none.
    """
    least = training.smallest_batch(network)
    if least > 1:
        check_batches(recipe, len(parts.train))
    per_epoch = training.steps_per_epoch(len(parts.train), recipe, least=least)
    if per_epoch == 0:
        raise Problem(
            "invalid_request",
            f"drop_last leaves no batch of {recipe.batch_size}: there are {len(parts.train)} "
            "training images.",
            hint="Give a smaller batch_size, or drop_last: false.",
        )
    return per_epoch * recipe.epochs


def _normalize(recipe: Recipe, data: DataSet) -> Normalize | None:
    if recipe.normalize == "auto":
        sums = data.parts["train"].sums
        assert sums is not None  # every set that is loaded has them
        return preprocess.measure_normalize(sums.count, sums.totals, sums.squares)
    return recipe.normalize
