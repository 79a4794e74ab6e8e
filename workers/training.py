"""The training loop: epochs of steps over images that already are one tensor.

Yields what happened; whoever iterates decides what to write, save or stop. Knows nothing of jobs,
files or databases.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from models_store.fields import Recipe
from models_store.pipeline import stages
from models_store.preprocess import to_input
from workers import backbone, compiling, graphs, optimizers, pacing
from workers.augmentation.augment import augment
from workers.augmentation.mixing import mix
from workers.batches import Samples, batches, steps_per_epoch
from workers.limits import Limits, Reason
from workers.meter import Meter, Metrics
from workers.room import Room
from workers.schedules import Schedule
from workers.steps import Prepared, Run, Step, Training

# Also what its callers need of the modules beneath.
__all__ = [
    "EpochEnd",
    "Metrics",
    "Run",
    "Samples",
    "Tick",
    "Training",
    "begin",
    "evaluate",
    "fit",
    "steps_per_epoch",
]

# Forward passes without gradients take little memory: larger batches keep a GPU busy. A CPU is the
# fastest while what a layer makes of them stays in its caches: 10,000 images of 32 px take half as
# long by 32 as they do by 512, and 150 MB less.
_EVALUATION_BATCH = 512
_EVALUATION_PIXELS = 32 * 32 * 32
_LEAST_EVALUATION_BATCH = 8


@dataclass(frozen=True, slots=True)
class Tick:
    """A look at the run: `metrics` are those of the images since the tick before."""

    step: int
    epoch: int
    metrics: Metrics
    lr: float
    images_per_second: float


@dataclass(frozen=True, slots=True)
class EpochEnd:
    """A finished epoch; `seconds` is its training part alone. `stop_reason`: it is the last."""

    epoch: int
    step: int
    train: Metrics
    validation: Metrics
    lr: float
    seconds: float
    images_per_second: float
    stop_reason: Reason | None = None


def smallest_batch(network: nn.Module) -> int:
    """Images that the network can be trained on: BatchNorm cannot normalise a single value."""
    batch_norm = nn.modules.batchnorm._BatchNorm
    return 2 if any(isinstance(module, batch_norm) for module in network.modules()) else 1


def begin(network: nn.Module, recipe: Recipe, run: Run, *, steps: int) -> Training:
    """A training of `steps` steps before its first one."""
    optimizer = optimizers.build(recipe.optimizer, backbone.parameters(network, recipe))
    scheduler = None
    if recipe.scheduler is not None:
        updates = math.ceil(steps // recipe.epochs / recipe.grad_accumulation)
        scheduler = Schedule(recipe.scheduler, optimizer, epochs=recipe.epochs, updates=updates)
    return Training(
        network=network,
        optimizer=optimizer,
        scheduler=scheduler,
        limits=Limits(recipe, agree=run.group.agree),
        steps=steps,
        preparing=Room("prepared", run.device),
        learning=Room(
            "trained on",
            run.device,
            least=smallest_batch(network),
            on_less=partial(_tell_of_parts, run),
        ),
        # Generators of our own: the global one has drawn the weights and is left alone, so a seed
        # gives the same weights whatever the data order and augmentation draw.
        order=torch.Generator().manual_seed(recipe.seed),
        chance=torch.Generator(device=run.device).manual_seed(recipe.seed),
        clip=recipe.clip_grad_norm,
        scaler=torch.amp.GradScaler(run.device.type) if run.precision == "fp16" else None,
        compute=compiling.ready(network, recipe, run),
        group=run.group,
    )


def fit(
    training: Training, train: Samples, validation: Samples, *, recipe: Recipe, run: Run
) -> Iterator[Tick | EpochEnd]:
    """Trains in place, the epochs that are left, unless a limit of the recipe ends it: after an
    epoch, or in the middle of one that is evaluated and counts as done. Ends early, in the middle
    of an epoch, once `run.stopped()`.

    The device is only waited for at ticks (at most every second) and at the end of an epoch.
    """
    with pacing.all_afterwards():
        yield from _fit(training, train, validation, recipe=recipe, run=run)


def _fit(
    training: Training, train: Samples, validation: Samples, *, recipe: Recipe, run: Run
) -> Iterator[Tick | EpochEnd]:
    network, limits = training.network, training.limits
    first, least = training.step + 1, smallest_batch(network)
    meter = Meter(run.loss, run.device, run.group)
    plain = Step(training, run, _making(training, train, recipe, run), meter)
    step = pacing.paced(graphs.quickened(plain, recipe, train.index), recipe, run)
    limits.begin()
    for epoch in range(training.epoch + 1, recipe.epochs + 1):
        if limits.ended:
            return
        backbone.train(network)
        before = training.step
        meter.begin()
        for batch in batches(train, recipe, training.order, run.loss, least=least, group=run.group):
            lr = step(batch)
            training.step += 1
            if training.step == first or meter.due():
                fresh, speed = meter.read()
                yield Tick(training.step, epoch, fresh, lr, speed)
            if run.stopped():
                return
            if batch.ends and limits.time_is_up():
                break
        whole = meter.means()  # waits for the device, so the time below is whole
        seconds, seen = meter.elapsed(), meter.images
        run.group.average_buffers(network)
        train.rest()
        measured = evaluate(network, validation, run)
        if measured is None:
            return
        cut = training.step - before < training.steps // recipe.epochs
        _close(training, epoch, measured, last=epoch == recipe.epochs and not cut)
        yield EpochEnd(
            epoch,
            training.step,
            whole,
            measured,
            lr,
            seconds,
            seen / seconds,
            limits.ended,
        )


def _making(
    training: Training, train: Samples, recipe: Recipe, run: Run
) -> Callable[[torch.Tensor], Prepared]:
    """From images (n,) to what the network is given."""
    on_pixels, on_inputs = stages(recipe.transforms.train)

    def make(index: torch.Tensor) -> Prepared:
        pixels = train.take(index).to(run.device, non_blocking=True)
        labels = train.labels.index_select(0, index).to(run.device, non_blocking=True)
        pixels = augment(pixels, on_pixels, training.chance)
        inputs, targets = mix(
            to_input(pixels, run.normalize),
            labels,
            on_inputs,
            classes=run.classes,
            generator=training.chance,
        )
        return Prepared(inputs, labels, targets)

    return make


def _tell_of_parts(run: Run, message: str) -> None:
    run.warn("batch_split", f"{message} Their gradients add up to those of the whole batch.")


Heed = Callable[[torch.Tensor, torch.Tensor], object]


def _close(training: Training, epoch: int, measured: Metrics, *, last: bool) -> None:
    """Moves what looks at validation; the last epoch needs no other end."""
    training.epoch = epoch
    if training.scheduler is not None:
        training.scheduler.after_epoch(measured.of_validation())
    if not last:
        training.limits.judge(measured.of_validation())


@torch.inference_mode()
def evaluate(
    network: nn.Module, samples: Samples, run: Run, *, heed: Heed | None = None
) -> Metrics | None:
    """Mean loss and accuracy in float32, as predictions are made; None once `run.stopped()`.

    `heed` gets the logits (n, classes) and labels (n,) of each batch, in the order of the samples.
    """
    network.eval()
    meter = Meter(run.loss, run.device, run.group)
    together = _evaluation_batch(samples, run.device) * run.group.size
    parts = [run.group.part(index) for index in torch.split(samples.index, together)]
    samples.expect([part for part in parts if len(part)])
    for index in parts:
        if run.stopped():
            return None
        if not len(index):
            continue
        labels = samples.labels[index].to(run.device, non_blocking=True)
        outputs = partial(_outputs, network, samples, index, run)
        logits = run.judging.compute(len(index), outputs)
        meter.count(run.loss.sum(logits, labels), logits, labels, labels)
        if heed is not None:
            heed(logits, labels)
    return meter.means()


def _evaluation_batch(samples: Samples, device: torch.device) -> int:
    """How many images at once."""
    if device.type != "cpu":
        return _EVALUATION_BATCH
    pixels = samples.pixels.shape[1] * samples.pixels.shape[2]
    return min(_EVALUATION_BATCH, max(_LEAST_EVALUATION_BATCH, _EVALUATION_PIXELS // pixels))


def _outputs(
    network: nn.Module, samples: Samples, index: torch.Tensor, run: Run, parts: int
) -> torch.Tensor:
    """Logits (n, classes) of images (n,) of `samples`, computed in so many parts."""

    def outputs(part: torch.Tensor) -> torch.Tensor:
        taken = samples.take(part).to(run.device, non_blocking=True)
        logits: torch.Tensor = network(to_input(taken, run.normalize, run.transforms))
        return logits

    if parts == 1:
        return outputs(index)
    return torch.cat([outputs(part) for part in torch.tensor_split(index, parts)])
