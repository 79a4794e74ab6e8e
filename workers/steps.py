"""What a step of a training is made of: network, optimizer, chance, and what a batch does to them.

A batch that the device has no room for is computed in parts, whose gradients add up to its own.
Knows nothing of epochs, jobs and files.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple, Self

import torch
from torch import nn

from models_store.fields import Computed, Normalize
from models_store.transforms import ShapingTransform
from workers import gradients
from workers.batches import Batch
from workers.group import Group, Share
from workers.limits import Limits
from workers.losses import Loss
from workers.meter import Meter
from workers.room import Room
from workers.schedules import Schedule


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
    # Hears a code and a message of what a person should know of.
    warn: Callable[[str, str], object] = lambda _code, _message: None
    group: Group = field(default_factory=Group)  # who computes parts of each batch
    judging: Room = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "judging", Room("judged", self.device))

    def shared(self, group: Group) -> Self:
        """The same with others, among whom the first one's word on stopping counts."""
        alone = self.stopped
        if self.device.type == "cpu":
            group.share_cores()
        return replace(self, group=group, stopped=lambda: group.agree(alone()))

    def made_with(self) -> dict[str, str]:
        """For the manifest: other threads or another precision give other bits."""
        threads = str(torch.get_num_threads())
        made = {"device": str(self.device), "precision": self.precision, "threads": threads}
        return made if self.group.size == 1 else {**made, "devices": str(self.group.size)}


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
    preparing: Room
    learning: Room
    clip: float | None = None  # the norm that gradients are cut to
    # Within it the optimizer has the learning rates where it looks for them.
    rates: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    scaler: torch.amp.GradScaler | None = None  # of fp16
    group: Group = field(default_factory=Group)
    compute: Callable[[torch.Tensor], torch.Tensor] | None = None  # the network's way in a step
    epoch: int = 0
    step: int = 0

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.chance.device

    def last_step(self, epochs: int) -> int:
        """The number that the last step of a run of so many epochs will have."""
        return self.step + (epochs - self.epoch) * (self.steps // epochs)

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

    def move(self, batch: Batch) -> float:
        """Moves the weights once the group of a batch is whole. Returns the learning rate."""
        if not batch.ends:
            return float(self.optimizer.param_groups[0]["lr"])
        with self.rates():
            self.update()
        return self.moved()

    def moved(self) -> float:
        """The weights have been moved. Returns the learning rate with which they were."""
        lr = float(self.optimizer.param_groups[0]["lr"])
        if self.scheduler is not None:
            self.scheduler.after_update()
        return lr

    @property
    def in_parts(self) -> bool:
        """Whether batches do not fit into the memory of the device whole."""
        return self.preparing.most is not None or self.learning.most is not None

    def update(self) -> None:
        """Moves the weights; no scheduler hears of it."""
        self.group.add_gradients(self.network)
        if self.clip is not None:
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()


class Prepared(NamedTuple):
    """Images (n, C, H, W) as the network takes them, what they are (n,), and what is learnt of
    them: the same, or shares (n, classes).
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    targets: torch.Tensor

    def part(self, where: slice) -> "Prepared":
        """Some of the images."""
        return Prepared(*(column[where] for column in self))

    def split(self, parts: int) -> "list[Prepared]":
        """In order, in parts of equal size but for one image."""
        if parts == 1:
            return [self]
        columns = (torch.tensor_split(tensor, parts) for tensor in self)
        return [Prepared(*row) for row in zip(*columns, strict=True)]


class Seen(NamedTuple):
    """What came out for some images, without gradients: the loss as it is minimized, the outputs
    (n, classes), and what they should have been.
    """

    loss: torch.Tensor
    logits: torch.Tensor
    labels: torch.Tensor
    targets: torch.Tensor


Learn = Callable[[Training, Batch, Prepared, Run], list[Seen]]


@dataclass(frozen=True, slots=True)
class Step:
    """What a batch does to a training, one operation after the other. `make` is of images (n,);
    `learns` is `learn`, or does the same otherwise.
    """

    training: Training
    run: Run
    make: Callable[[torch.Tensor], Prepared]
    meter: Meter
    learns: Learn | None = None

    def __call__(self, batch: Batch) -> float:
        """Does it. Returns the learning rate."""
        prepared = prepare(batch.index, self.make, self.training.preparing)
        outcome = (self.learns or learn)(self.training, batch, prepared, self.run)
        lr = self.training.move(batch)
        for seen in outcome:
            self.meter.count(*self.summed(seen))
        return lr

    @torch.no_grad()
    def summed(self, seen: Seen) -> Seen:
        """With the sum of the losses in place of what is minimized."""
        return seen._replace(loss=self.run.loss.summed(seen.loss, seen.targets))


def prepare(index: torch.Tensor, make: Callable[[torch.Tensor], Prepared], room: Room) -> Prepared:
    """What `make` makes of the images (n,) of a batch, all at once if there is room."""

    def attempt(parts: int) -> Prepared:
        if parts == 1:
            return make(index)
        made = [make(part) for part in torch.tensor_split(index, parts)]
        return Prepared(*map(torch.cat, zip(*made, strict=True)))

    return room.compute(len(index), attempt)


def learn(training: Training, batch: Batch, prepared: Prepared, run: Run) -> list[Seen]:
    """Adds the gradients of a batch, or of what of it is here, to those of its group; no weight
    moves.

    They are those of the whole batch also where it is computed in parts, but for rounding and for
    BatchNorm, which sees each part alone.
    """
    earlier: list[tuple[nn.Parameter, torch.Tensor]] = []
    if batch.begins:
        training.optimizer.zero_grad(set_to_none=True)
    if batch.here is not None:
        prepared = prepared.part(batch.here)
    if not len(prepared.labels):  # others have its images
        return []
    if not batch.begins:  # put aside they are safe from an attempt that fails
        earlier = gradients.take(training.network)

    def attempt(parts: int) -> list[Seen]:
        return [
            _differentiate(training, part, run, shares=(batch.share, share))
            for part, share in _shared(prepared.split(parts), run.loss)
        ]

    undo = partial(gradients.take, training.network)
    seen = training.learning.compute(len(prepared.labels), attempt, undo=undo)
    gradients.add(earlier)
    return seen


def learn_whole(
    training: Training, prepared: Prepared, run: Run, *, heed: Callable[[Seen], object]
) -> None:
    """Makes the gradients of a whole batch at once; `heed` is told before what came out."""
    training.optimizer.zero_grad(set_to_none=True)
    _differentiate(training, prepared, run, shares=(None, None), heed=heed)


def _shared(parts: list[Prepared], loss: Loss) -> list[tuple[Prepared, Share]]:
    """Each part with what its loss counts for in that of the batch; None: it is the batch's."""
    if len(parts) == 1:
        return [(parts[0], None)]
    targets = [part.targets for part in parts]
    return list(zip(parts, loss.shares(targets, mixed=targets[0].ndim > 1), strict=True))


def _differentiate(
    training: Training,
    part: Prepared,
    run: Run,
    *,
    shares: tuple[Share, Share],
    heed: Callable[[Seen], object] = lambda _: None,
) -> Seen:
    with _precision(run):
        logits = (training.compute or training.network)(part.inputs)
    loss = run.loss(logits.float(), part.targets)
    minimized = loss
    for share in shares:
        if share is not None:
            minimized = minimized * share
    if training.scaler is not None:
        minimized = training.scaler.scale(minimized)
    seen = Seen(loss.detach(), logits.detach(), part.labels, part.targets)
    heed(seen)
    minimized.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return seen


def _precision(run: Run) -> contextlib.AbstractContextManager[object]:
    dtype = torch.float16 if run.precision == "fp16" else torch.bfloat16
    return torch.autocast(run.device.type, dtype=dtype, enabled=run.precision in ("bf16", "fp16"))
