"""The training loop: epochs of steps over images that already are one tensor.

Yields what happened; whoever iterates decides what to write, save or stop. Knows nothing of jobs,
files or databases.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from models_store.fields import Computed, Normalize, Recipe
from models_store.pipeline import stages
from models_store.preprocess import to_input
from models_store.transforms import ShapingTransform
from workers import backbone, optimizers
from workers.augmentation.augment import augment
from workers.augmentation.mixing import mix
from workers.batches import Batch, Samples, batches, steps_per_epoch
from workers.limits import Limits, Reason
from workers.losses import Loss
from workers.meter import Meter, Metrics
from workers.schedules import Schedule

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

# Forward passes without gradients take little memory: larger batches keep the cores busy.
_EVALUATION_BATCH = 512


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


@dataclass(frozen=True, slots=True)
class Run:
    """What a recipe leaves to the machine."""

    device: torch.device
    precision: Computed
    normalize: Normalize | None
    stopped: Callable[[], bool]
    # Of the images that are judged; those that are trained on have the recipe's own list.
    transforms: Sequence[ShapingTransform] = ()
    classes: int = 0  # only mixed images ask for it
    loss: Loss = field(default_factory=Loss)

    def made_with(self) -> dict[str, str]:
        """For the manifest: other threads or another precision give other bits."""
        threads = str(torch.get_num_threads())
        return {"device": str(self.device), "precision": self.precision, "threads": threads}


def smallest_batch(network: nn.Module) -> int:
    """Images that the network can be trained on: BatchNorm cannot normalise a single value."""
    batch_norm = nn.modules.batchnorm._BatchNorm
    return 2 if any(isinstance(module, batch_norm) for module in network.modules()) else 1


@dataclass(slots=True)
class Training:
    """A network with all that its next epoch depends on. `epoch` and `step` count what is done;
    a step is a batch, whether the optimizer moves after it or after some more.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Schedule | None
    limits: Limits
    steps: int  # of the whole run
    order: torch.Generator  # which images make a batch
    chance: torch.Generator  # how they are augmented
    clip: float | None = None  # the norm that gradients are cut to
    scaler: torch.amp.GradScaler | None = None  # of fp16
    epoch: int = 0
    step: int = 0

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.chance.device

    def random_states(self) -> dict[str, torch.Tensor]:
        """Of the two generators and of PyTorch's own, which dropout draws from."""
        states = {"order": self.order.get_state(), "chance": self.chance.get_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        return states | {"torch": torch.get_rng_state()}

    def set_random_states(self, states: Mapping[str, torch.Tensor]) -> None:
        """Takes what `random_states` gave."""
        self.order.set_state(states["order"])
        self.chance.set_state(states["chance"])
        torch.set_rng_state(states["torch"])
        if "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self.device)

    def learn(self, loss: torch.Tensor, batch: Batch) -> float:
        """Adds the gradients of a batch, and moves the weights once a group is whole. Returns the
        learning rate.
        """
        if batch.begins:
            self.optimizer.zero_grad(set_to_none=True)
        if batch.share is not None:
            loss = loss * batch.share
        if self.scaler is not None:
            loss = self.scaler.scale(loss)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        lr = float(self.optimizer.param_groups[0]["lr"])
        if batch.ends:
            self._update()
        return lr

    def _update(self) -> None:
        if self.clip is not None:
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        if self.scheduler is not None:
            self.scheduler.after_update()


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
        limits=Limits(recipe),
        steps=steps,
        # Generators of our own: the global one has drawn the weights and is left alone, so a seed
        # gives the same weights whatever the data order and augmentation draw.
        order=torch.Generator().manual_seed(recipe.seed),
        chance=torch.Generator(device=run.device).manual_seed(recipe.seed),
        clip=recipe.clip_grad_norm,
        scaler=torch.amp.GradScaler(run.device.type) if run.precision == "fp16" else None,
    )


def fit(
    training: Training, train: Samples, validation: Samples, *, recipe: Recipe, run: Run
) -> Iterator[Tick | EpochEnd]:
    """Trains in place, the epochs that are left, unless a limit of the recipe ends it: after an
    epoch, or in the middle of one that is evaluated and counts as done. Ends early, in the middle
    of an epoch, once `run.stopped()`.

    The device is only waited for at ticks (at most every half second) and at the end of an epoch.
    """
    network, limits = training.network, training.limits
    first, least = training.step + 1, smallest_batch(network)
    on_pixels, on_inputs = stages(recipe.transforms.train)
    limits.begin()
    for epoch in range(training.epoch + 1, recipe.epochs + 1):
        if limits.ended:
            return
        backbone.train(network)
        before = training.step
        meter = Meter(run.loss, run.device)
        for batch in batches(train, recipe, training.order, run.loss, least=least):
            pixels = train.pixels[batch.index].to(run.device, non_blocking=True)
            labels = train.labels[batch.index].to(run.device, non_blocking=True)
            pixels = augment(pixels, on_pixels, training.chance)
            inputs = to_input(pixels, run.normalize)
            inputs, targets = mix(
                inputs, labels, on_inputs, classes=run.classes, generator=training.chance
            )
            with _precision(run):
                logits = network(inputs)
            loss = run.loss(logits.float(), targets)
            lr = training.learn(loss, batch)
            training.step += 1
            with torch.no_grad():
                summed = run.loss.summed(loss.detach(), targets)
                meter.count(summed, logits, labels, targets)
            if training.step == first or meter.due():
                fresh, speed = meter.read()
                yield Tick(training.step, epoch, fresh, lr, speed)
            if run.stopped():
                return
            if batch.ends and limits.time_is_up():
                break
        whole = meter.means()  # waits for the device, so the time below is whole
        seconds, seen = meter.elapsed(), meter.images
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
    meter = Meter(run.loss, run.device)
    for index in torch.split(samples.index, _EVALUATION_BATCH):
        if run.stopped():
            return None
        pixels = samples.pixels[index].to(run.device, non_blocking=True)
        labels = samples.labels[index].to(run.device, non_blocking=True)
        logits = network(to_input(pixels, run.normalize, run.transforms))
        meter.count(run.loss.sum(logits, labels), logits, labels, labels)
        if heed is not None:
            heed(logits, labels)
    return meter.means()


def _precision(run: Run) -> contextlib.AbstractContextManager[object]:
    dtype = torch.float16 if run.precision == "fp16" else torch.bfloat16
    return torch.autocast(run.device.type, dtype=dtype, enabled=run.precision in ("bf16", "fp16"))
