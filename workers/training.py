"""The training loop: epochs of steps over images that already are one tensor.

Yields what happened; whoever iterates decides what to write, save or stop. Knows nothing of jobs,
files or databases.
"""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import LRScheduler

from models_store.fields import Normalize, Recipe
from models_store.pipeline import stages
from models_store.preprocess import to_input
from models_store.transforms import ShapingTransform
from workers import backbone, optimizers
from workers.augmentation.augment import augment
from workers.augmentation.mixing import mix

TICK_SECONDS = 0.5
# Forward passes without gradients take little memory: larger batches keep the cores busy.
_EVALUATION_BATCH = 512


@dataclass(frozen=True, slots=True)
class Samples:
    """Some images: `index` (n,) points into `pixels` (N, H, W, C) uint8 and `labels` (N,)."""

    pixels: torch.Tensor
    labels: torch.Tensor
    index: torch.Tensor

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True, slots=True)
class Metrics:
    """Mean loss per image, and the share of right answers (0 to 1)."""

    loss: float
    accuracy: float


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
    """A finished epoch; `seconds` is its training part alone."""

    epoch: int
    step: int
    train: Metrics
    validation: Metrics
    lr: float
    seconds: float
    images_per_second: float


@dataclass(frozen=True, slots=True)
class Run:
    """What a recipe leaves to the machine."""

    device: torch.device
    bf16: bool
    normalize: Normalize | None
    stopped: Callable[[], bool]
    # Of the images that are judged; those that are trained on have the recipe's own list.
    transforms: Sequence[ShapingTransform] = ()
    classes: int = 0  # only mixed images ask for it

    @property
    def precision(self) -> str:
        """`bf16` or `fp32`."""
        return "bf16" if self.bf16 else "fp32"

    def made_with(self) -> dict[str, str]:
        """For the manifest: other threads or another precision give other bits."""
        threads = str(torch.get_num_threads())
        return {"device": str(self.device), "precision": self.precision, "threads": threads}


def steps_per_epoch(samples: int, recipe: Recipe, *, least: int = 1) -> int:
    """Number of batches; the last may be smaller unless `drop_last`, and joins the one before when
    it has fewer images than `least`.
    """
    whole, rest = divmod(samples, recipe.batch_size)
    joins = whole and rest < least
    return whole + (1 if rest and not joins and not recipe.data_loader.drop_last else 0)


def smallest_batch(network: nn.Module) -> int:
    """Images that the network can be trained on: BatchNorm cannot normalise a single value."""
    batch_norm = nn.modules.batchnorm._BatchNorm
    return 2 if any(isinstance(module, batch_norm) for module in network.modules()) else 1


@dataclass(slots=True)
class Training:
    """A network with all that its next epoch depends on. `epoch` and `step` count what is done."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler | None
    steps: int  # of the whole run
    order: torch.Generator  # which images make a batch
    chance: torch.Generator  # how they are augmented
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

    def advance_schedule(self) -> None:
        """Brings a fresh schedule to the step that the training is at."""
        if self.scheduler is None or not self.step:
            return
        self.scheduler.last_epoch = self.step - 1
        with warnings.catch_warnings():
            # PyTorch misses the optimizer's step before it, which an earlier process has made.
            warnings.filterwarnings(
                "ignore", message="Detected call of `lr_scheduler.step", category=UserWarning
            )
            self.scheduler.step()


def begin(network: nn.Module, recipe: Recipe, run: Run, *, steps: int) -> Training:
    """A training of `steps` steps before its first one."""
    optimizer = optimizers.build(recipe.optimizer, backbone.parameters(network, recipe))
    return Training(
        network=network,
        optimizer=optimizer,
        scheduler=optimizers.schedule(recipe.scheduler, optimizer, steps=steps),
        steps=steps,
        # Generators of our own: the global one has drawn the weights and is left alone, so a seed
        # gives the same weights whatever the data order and augmentation draw.
        order=torch.Generator().manual_seed(recipe.seed),
        chance=torch.Generator(device=run.device).manual_seed(recipe.seed),
    )


def fit(
    training: Training, train: Samples, validation: Samples, *, recipe: Recipe, run: Run
) -> Iterator[Tick | EpochEnd]:
    """Trains in place, the epochs that are left. Ends early, in the middle of an epoch, once
    `run.stopped()`.

    The device is only waited for at ticks (at most every half second) and at the end of an epoch.
    """
    network, optimizer, scheduler = training.network, training.optimizer, training.scheduler
    first, least = training.step + 1, smallest_batch(network)
    on_pixels, on_inputs = stages(recipe.transforms.train)
    for epoch in range(training.epoch + 1, recipe.epochs + 1):
        backbone.train(network)
        totals = _totals(run.device)
        meter = _Meter(totals)
        for index in _batches(train, recipe, training.order, least):
            pixels = train.pixels[index].to(run.device, non_blocking=True)
            labels = train.labels[index].to(run.device, non_blocking=True)
            pixels = augment(pixels, on_pixels, training.chance)
            inputs, targets = to_input(pixels, run.normalize), labels
            if on_inputs:
                inputs, targets = mix(
                    inputs, labels, on_inputs, classes=run.classes, generator=training.chance
                )
            with _precision(run):
                logits = network(inputs)
            loss = functional.cross_entropy(logits.float(), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            lr = float(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            training.step += 1
            with torch.no_grad():
                totals[0] += loss.detach() * len(index)
                totals[1] += (logits.argmax(1) == labels).sum()
            meter.count(len(index))
            if training.step == first or meter.due():
                fresh, speed = meter.read()
                yield Tick(training.step, epoch, fresh, lr, speed)
            if run.stopped():
                return
        whole = _means(totals, meter.images)  # waits for the device, so the time below is whole
        seconds, seen = meter.elapsed(), meter.images
        measured = evaluate(network, validation, run)
        if measured is None:
            return
        training.epoch = epoch
        yield EpochEnd(
            epoch,
            training.step,
            whole,
            measured,
            lr,
            seconds,
            seen / seconds,
        )


Heed = Callable[[torch.Tensor, torch.Tensor], object]


@torch.inference_mode()
def evaluate(
    network: nn.Module, samples: Samples, run: Run, *, heed: Heed | None = None
) -> Metrics | None:
    """Mean loss and accuracy in float32, as predictions are made; None once `run.stopped()`.

    `heed` gets the logits (n, classes) and labels (n,) of each batch, in the order of the samples.
    """
    network.eval()
    totals = _totals(run.device)
    for index in torch.split(samples.index, _EVALUATION_BATCH):
        if run.stopped():
            return None
        pixels = samples.pixels[index].to(run.device, non_blocking=True)
        labels = samples.labels[index].to(run.device, non_blocking=True)
        logits = network(to_input(pixels, run.normalize, run.transforms))
        totals[0] += functional.cross_entropy(logits, labels, reduction="sum")
        totals[1] += (logits.argmax(1) == labels).sum()
        if heed is not None:
            heed(logits, labels)
    return _means(totals, len(samples))


def _totals(device: torch.device) -> torch.Tensor:
    """Sum of losses, and number of right answers. Apple's GPUs have no float64."""
    exact = torch.float32 if device.type == "mps" else torch.float64
    return torch.zeros(2, device=device, dtype=exact)


def _means(totals: torch.Tensor, images: int) -> Metrics:
    loss_sum, right = totals.tolist()
    return Metrics(loss_sum / images, right / images)


class _Meter:
    """Images and seconds of an epoch, and what was measured since the last look."""

    def __init__(self, totals: torch.Tensor) -> None:
        self._totals = totals
        self._began = self._looked = time.perf_counter()
        self._totals_before, self._images_before = torch.zeros_like(totals), 0
        self.images = 0

    def count(self, images: int) -> None:
        self.images += images

    def due(self) -> bool:
        return time.perf_counter() - self._looked >= TICK_SECONDS

    def elapsed(self) -> float:
        return time.perf_counter() - self._began

    def read(self) -> tuple[Metrics, float]:
        """Means and images per second since the last look; waits for the device."""
        fresh = self.images - self._images_before
        metrics = _means(self._totals - self._totals_before, fresh)
        now = time.perf_counter()
        speed = fresh / (now - self._looked)
        self._totals_before, self._images_before = self._totals.clone(), self.images
        self._looked = now
        return metrics, speed


def _batches(
    train: Samples, recipe: Recipe, order: torch.Generator, least: int
) -> Iterator[torch.Tensor]:
    """Index tensors of one epoch's batches; a last one below `least` joins the one before."""
    index = train.index
    if recipe.data_loader.shuffle:
        index = index[torch.randperm(len(index), generator=order).to(index.device)]
    batches = list(torch.split(index, recipe.batch_size))
    if len(batches) > 1 and len(batches[-1]) < least and not recipe.data_loader.drop_last:
        batches[-2:] = [torch.cat(batches[-2:])]
    for batch in batches:
        if len(batch) >= recipe.batch_size or not recipe.data_loader.drop_last:
            yield batch


def _precision(run: Run) -> contextlib.AbstractContextManager[object]:
    return torch.autocast(run.device.type, dtype=torch.bfloat16, enabled=run.bf16)
