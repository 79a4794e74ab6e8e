"""Steps on a CPU from a tape: forward, loss and gradients of a batch as the list of kernels that
PyTorch computed them with before.

To the bit what comes out without, which is proved of a tape before it is used. Knows nothing of
epochs, jobs and files.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import nn

from models_store.fields import Recipe
from workers import convolutions, gradients, steps
from workers.batches import Batch
from workers.room import is_exhausted
from workers.steps import Prepared, Run, Seen, Step, Training
from workers.tapes import Recorder, Tape

log = logging.getLogger(__name__)

# Batches of a shape before there is a tape for it, which takes as long as four or five to make and
# saves a tenth of each: short trainings do without. So do those whose steps take longer than this,
# of which what a tape saves is no part worth having.
_BEFORE = 16
_LONG_SECONDS = 0.1
_MOST_SHAPES = 4

# Of the inputs with where they lie in memory: layers may do something else for another layout.
Shape = tuple[torch.Size, tuple[int, ...], torch.Size, torch.dtype]
Replay = tuple[Tape, Sequence[nn.Parameter]]  # with the weights that it has the gradients of


def quickened(step: Step, recipe: Recipe) -> Step:
    """What does the same as `step`, on a CPU, and faster once it has done it for a while."""
    alone = step.run.group.size == 1 and recipe.grad_accumulation == 1
    if not alone or recipe.compile or step.training.scaler is not None:
        return step
    return replace(step, learns=Replaying())


class Replaying:
    """Does what `steps.learn` does for batches that are whole groups."""

    def __init__(self) -> None:
        self._met: Counter[Shape] = Counter()
        self._least_seconds = math.inf
        self._replays: dict[Shape, Replay] = {}

    def __call__(
        self, training: Training, batch: Batch, prepared: Prepared, run: Run
    ) -> list[Seen]:
        """Makes the gradients of a batch."""
        inputs, targets = prepared.inputs, prepared.targets
        shape = (inputs.shape, inputs.stride(), targets.shape, targets.dtype)
        if shape in self._replays and not training.in_parts:
            if (seen := _replayed(prepared, *self._replays[shape])) is not None:
                return [seen]
            self._replays.clear()  # their memory is needed
        began = time.perf_counter()
        learnt = steps.learn(training, batch, prepared, run)
        self._least_seconds = min(self._least_seconds, time.perf_counter() - began)
        if len(self._met) < _MOST_SHAPES or shape in self._met:
            self._met[shape] += 1
        worth_it = self._met[shape] == _BEFORE and self._least_seconds < _LONG_SECONDS
        if worth_it and not training.in_parts:
            earlier = gradients.take(training.network)
            self._record(training, prepared, run, shape)
            gradients.add(earlier)
        return learnt

    def _record(self, training: Training, prepared: Prepared, run: Run, shape: Shape) -> None:
        """For the next of such batches."""
        try:
            with convolutions.one_way():
                made = _proven(training, prepared, run)
        except (MemoryError, RuntimeError) as error:
            if not is_exhausted(error):
                raise
            made = "there is no memory for it"
        training.optimizer.zero_grad(set_to_none=True)
        if isinstance(made, str):
            log.info("steps are computed without a tape: %s", made)
        else:
            self._replays[shape] = made


def _replayed(prepared: Prepared, tape: Tape, trained: Sequence[nn.Parameter]) -> Seen | None:
    """None where there was no memory for it."""
    for weight in trained:
        weight.grad = None
    try:
        with torch.no_grad():
            loss, logits, *made = tape(prepared.inputs, prepared.targets)
    except (MemoryError, RuntimeError) as error:
        if not is_exhausted(error):
            raise
        return None
    for weight, gradient in zip(trained, made, strict=True):
        weight.grad = gradient
    return Seen(loss, logits, prepared.labels, prepared.targets)


def _proven(training: Training, prepared: Prepared, run: Run) -> Replay | str:
    """A tape of a step, or why there is none. Leaves gradients, and no other trace."""
    weights = list(training.network.parameters())
    seen: list[Seen] = []

    def learnt() -> list[torch.Tensor]:
        steps.learn_whole(training, prepared, run, heed=seen.append)
        made = [weight.grad for weight in weights if weight.grad is not None]
        return [seen[-1].loss, seen[-1].logits, *made]

    def recorded() -> list[torch.Tensor]:
        with recorder:
            made = learnt()
        tapes.append(recorder.tape(made))
        return made

    given = {"inputs": prepared.inputs, "targets": prepared.targets}
    lasting = [*weights, *training.network.buffers(), *run.loss.constants()]
    recorder, tapes = Recorder(given, lasting), list[Tape | None]()
    plain = _tried(training, learnt)
    again = _tried(training, recorded)
    trained = [weight for weight in weights if weight.grad is not None]
    if (tape := tapes[0]) is None:
        return str(recorder.reason)
    if not _same(plain, again):
        return "each time comes out another"
    del again
    with torch.no_grad():
        replayed = _tried(training, lambda: list(tape(*given.values())))
    return (tape, trained) if _same(plain, replayed) else "from it comes out another"


def _tried(training: Training, compute: Callable[[], list[torch.Tensor]]) -> list[torch.Tensor]:
    """What comes out, with the network's buffers and the states of chance that it has left. They
    are put back.
    """
    buffers = list(training.network.buffers())
    before, chance = [buffer.clone() for buffer in buffers], training.random_states()
    made = compute()
    left = [buffer.clone() for buffer in buffers] + list(training.random_states().values())
    with torch.no_grad():
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
    training.set_random_states(chance)
    return made + left


def _same(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    """To the bit, and laid out alike in memory."""
    return len(one) == len(other) and all(
        a.dtype == b.dtype and a.stride() == b.stride() and torch.equal(a, b)
        for a, b in zip(one, other, strict=True)
    )
