"""Steps of a training as a CUDA graph: recorded once, launched whole for every batch after that.

A step of a small network is some sixty kernels of a few microseconds each, and PyTorch takes
several times as long to launch them one by one as a GPU to compute them. What cannot be recorded
is done as ever. Knows nothing of epochs, jobs and files.
"""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from models_store.fields import Recipe
from workers import devices, rehearsal, replays, steps
from workers.batches import Batch
from workers.steps import Seen, Step, Training

log = logging.getLogger(__name__)

# Optimizers whose fused step reads its rate on the device, and whose state begins as nothing.
_RECORDED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
# Of the memory that is free: a recorded step keeps what it computes in, and other batches need as
# much beside it.
_SHARE = 0.25


def quickened(step: Step, recipe: Recipe, index: torch.Tensor) -> Callable[[Batch], float]:
    """What does the same as `step`, on a CUDA GPU as one launch.

    There a step is tried out on the training images `index` (n,) first, so that no epoch waits for
    what a device does once; it leaves no trace. Batches of another size than `recipe.batch_size`
    are left to `step`, and so are all that cannot be recorded: the log says why.
    """
    training = step.training
    device = training.device
    if device.type == "cpu":
        return replays.quickened(step, recipe)
    if device.type != "cuda" or step.run.group.size > 1:
        return step
    whole, rest = index[: recipe.batch_size], index[: len(index) % recipe.batch_size]
    moves = _moves_alike(training, recipe)
    if moves:  # of every step, recorded or not, so that all compute to the same bits
        rates = Rates(training.optimizer, device)
        training.rates = rates.lent
    with torch.cuda.device(device), rehearsal.unchanged(training):
        peak = rehearsal.rehearse(step, whole, moves=moves)
        if 1 < len(rest) < len(whole) and not recipe.data_loader.drop_last:
            rehearsal.rehearse(step, rest, moves=False)
        reason = _reason_against(step, recipe, whole, peak, moves=moves)
    if reason is None:
        try:
            return Recorded(step, whole, rates if moves else None)
        except RuntimeError as error:
            reason = str(error)
            with contextlib.suppress(RuntimeError):  # eager steps may do all the same
                _mend(training)
    log.warning("steps are not recorded: %s", reason.partition("\n")[0])
    return step


def _reason_against(
    step: Step, recipe: Recipe, index: torch.Tensor, peak: int, *, moves: bool
) -> str | None:
    """Why the step, which takes `peak` bytes, is not recorded. It is looked for beforehand, since a
    recording that fails leaves much behind.
    """
    training = step.training
    if recipe.grad_accumulation > 1:
        return "the gradients of several batches make one"
    if recipe.compile:
        return "the network is compiled"
    if training.in_parts or peak > devices.free(training.device) * _SHARE:
        return f"the memory is needed, of which one takes {peak / 1e6:,.0f} MB"
    if not index.is_cuda:
        return "the images are not on the device"
    try:
        with rehearsal.without_waiting():
            rehearsal.rehearse(step, index, moves=moves)
    except RuntimeError as error:
        return str(error)
    return None


class Recorded:
    """A step for batches of one size, recorded when it is made. Raises what recording raises.

    With `rates` the optimizer's part is recorded too; else it works as ever, on the gradients that
    the graph has left.
    """

    def __init__(self, step: Step, index: torch.Tensor, rates: "Rates | None") -> None:
        self._plain, self._rates = step, rates
        self._index = index.clone()
        self._graph: torch.cuda.CUDAGraph | None = torch.cuda.CUDAGraph()
        self._graph.register_generator_state(step.training.chance)
        with (
            torch.cuda.device(index.device),
            # Other threads of the process may use CUDA meanwhile.
            torch.cuda.graph(self._graph, capture_error_mode="thread_local"),
        ):
            self._record()
        parameters = step.training.network.parameters()
        self._gradients = [(one, one.grad) for one in parameters if one.grad is not None]

    def __call__(self, batch: Batch) -> float:
        """Does the step. Returns the learning rate."""
        training = self._plain.training
        if training.in_parts:
            self._graph, self._gradients = None, []  # its memory is needed
        if self._graph is None or len(batch.index) != len(self._index):
            return self._plain(batch)
        self._index.copy_(batch.index)
        if self._rates is not None:
            self._rates.refresh()
        self._graph.replay()
        self._plain.meter.images += len(self._index)
        if self._rates is not None:
            return training.moved()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        return training.move(batch)

    def _record(self) -> None:
        """The step as the graph has it: what is measured is added up beside the gradients."""
        training, run = self._plain.training, self._plain.run
        main = torch.cuda.current_stream()
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        kept: list[Seen] = []  # or its memory would be given to others before it is read

        def measure(seen: Seen) -> None:
            kept.append(seen)
            beside.wait_stream(main)
            with torch.cuda.stream(beside):
                self._plain.meter.add(*self._plain.summed(seen))

        steps.learn_whole(training, self._plain.make(self._index), run, heed=measure)
        if self._rates is not None:
            with self._rates.in_place():
                training.update()
        main.wait_stream(beside)


class Rates:
    """The learning rates of an optimizer on its device, where a recorded step finds them.

    Everybody else sees them as the numbers that they are: the optimizer has them for the time of
    its step only.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self._groups: list[dict[str, Any]] = optimizer.param_groups
        self._numbers = [float(group["lr"]) for group in self._groups]
        self._tensors = [torch.tensor(lr, device=device) for lr in self._numbers]

    def refresh(self) -> None:
        """Brings what has changed to the device, without waiting for it."""
        for place, group in enumerate(self._groups):
            if group["lr"] != self._numbers[place]:
                self._numbers[place] = group["lr"]
                self._tensors[place].fill_(group["lr"])

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """The optimizer has them, as they are now."""
        self.refresh()
        with self.in_place():
            yield

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The optimizer has them, as they were refreshed last."""
        numbers = [group["lr"] for group in self._groups]
        for group, tensor in zip(self._groups, self._tensors, strict=True):
            group["lr"] = tensor
            if "capturable" in group:
                group["capturable"] = True
        try:
            yield
        finally:
            for group, number in zip(self._groups, numbers, strict=True):
                group["lr"] = number
                if "capturable" in group:
                    group["capturable"] = False


def _moves_alike(training: Training, recipe: Recipe) -> bool:
    """Whether the optimizer's steps may be recorded: nothing in them but the rate changes."""
    return (
        type(training.optimizer) in _RECORDED
        and all(
            one["fused"] and not one.get("dampening") for one in training.optimizer.param_groups
        )
        and not (recipe.scheduler or {}).get("cycle_momentum", False)
        and training.scaler is None
        and recipe.grad_accumulation == 1
    )


def _mend(training: Training) -> None:
    """After a recording that has failed PyTorch's generators still take themselves for recorded;
    one of nothing, which ends well, tells them that it is over.
    """
    training.optimizer.zero_grad(set_to_none=True)
    state = training.chance.get_state()
    training.chance = torch.Generator(device=training.device)
    training.chance.set_state(state)
    with warnings.catch_warnings(), torch.cuda.device(training.device):
        warnings.simplefilter("ignore")  # it is empty, says PyTorch
        with torch.cuda.graph(torch.cuda.CUDAGraph(), capture_error_mode="thread_local"):
            pass
