"""Steps on a CPU from a tape: forward, loss and gradients of a batch, as the list of kernels that
they were the first time.

To the bit what PyTorch does step by step, which is proved before a tape is used. Knows nothing of
epochs, jobs and files.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from models_store.fields import Recipe
from workers import kernels, steps
from workers.batches import Batch
from workers.room import is_exhausted
from workers.steps import Prepared, Run, Seen, Step, Training
from workers.tapes import Recorder, Tape

log = logging.getLogger(__name__)

# Steps of a shape before one is written down, which takes as long as some of them.
_BEFORE = 16
_MOST_SHAPES = 4

Replay = tuple[Tape, list[torch.nn.Parameter]]
Shape = tuple[torch.Size, torch.Size, torch.dtype]


def quickened(step: Step, recipe: Recipe) -> Step:
    """What does the same as `step`, on a CPU, faster once some batches were trained on."""
    alone = step.run.group.size == 1 and recipe.grad_accumulation == 1
    if not alone or recipe.compile or step.training.scaler is not None:
        return step
    return replace(step, learns=Replaying())


class Replaying:
    """As `steps.learn`: the gradients of a batch."""

    def __init__(self) -> None:
        self._met: Counter[Shape] = Counter()
        self._tapes: dict[Shape, Replay] = {}

    def __call__(
        self, training: Training, batch: Batch, prepared: Prepared, run: Run
    ) -> list[Seen]:
        """From a tape, if there is one for such a batch."""
        shape = (prepared.inputs.shape, prepared.targets.shape, prepared.targets.dtype)
        if training.in_parts:
            self._tapes.clear()
        elif shape in self._tapes:
            if (seen := self._replayed(training, prepared, *self._tapes[shape])) is not None:
                return [seen]
            self._tapes.clear()
        elif len(self._met) <= _MOST_SHAPES:
            self._met[shape] += 1
            if self._met[shape] == _BEFORE:
                self._record(training, prepared, run, shape)
        return steps.learn(training, batch, prepared, run)

    def _replayed(
        self,
        training: Training,
        prepared: Prepared,
        tape: Tape,
        trained: Sequence[torch.nn.Parameter],
    ) -> Seen | None:
        """None where there was no memory for it."""
        for weight in trained:
            weight.grad = None
        try:
            with torch.no_grad():
                loss, logits, *gradients = tape(prepared.inputs, prepared.targets)
        except (MemoryError, RuntimeError) as error:
            if not is_exhausted(error):
                raise
            return None
        for weight, gradient in zip(trained, gradients, strict=True):
            weight.grad = gradient
        return Seen(loss, logits, prepared.labels, prepared.targets)

    def _record(self, training: Training, prepared: Prepared, run: Run, shape: Shape) -> None:
        """Makes a tape for such batches, unless what it does differs from what it was made of."""
        try:
            with kernels.one_way():
                made = _proven(training, prepared, run)
        except (MemoryError, RuntimeError) as error:
            if not is_exhausted(error):
                raise
            made = "there is no memory for it"
        if isinstance(made, str):
            log.info("steps are not done from a tape: %s", made)
        else:
            self._tapes[shape] = made


def _proven(training: Training, prepared: Prepared, run: Run) -> Replay | str:
    """A tape with the weights that it has gradients for, or why there is none. Leaves no trace."""
    weights = list(training.network.parameters())
    seen: list[Seen] = []

    def learnt() -> list[torch.Tensor]:
        seen.clear()
        steps.learn_whole(training, prepared, run, heed=seen.append)
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        return [seen[0].loss, seen[0].logits, *gradients]

    lasting = [*weights, *training.network.buffers(), *run.loss.constants()]
    given = {"inputs": prepared.inputs, "targets": prepared.targets}
    recorder = Recorder(given, lasting)
    tape: Tape | None = None

    def recorded() -> list[torch.Tensor]:
        nonlocal tape
        with recorder:
            made = learnt()
        tape = recorder.tape(made)
        return made

    plain, again = _tried(training, learnt), _tried(training, recorded)
    trained = [weight for weight in weights if weight.grad is not None]
    training.optimizer.zero_grad(set_to_none=True)
    if tape is None:
        return str(recorder.reason)
    with torch.no_grad():
        replayed = _tried(training, lambda: list(tape(*given.values())))
    if not _same(plain, again) or not _same(plain, replayed):
        return "another computation came out"
    return tape, trained


def _tried(
    training: Training, compute: Callable[[], list[torch.Tensor]]
) -> list[torch.Tensor]:
    """What comes out, with the buffers of the network and the states of chance afterwards, which
    are put back.
    """
    buffers = list(training.network.buffers())
    before, chance = [one.clone() for one in buffers], training.random_states()
    made = compute()
    made += [one.clone() for one in buffers] + list(training.random_states().values())
    with torch.no_grad():
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
    training.set_random_states(chance)
    return made


def _same(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    """To the bit, and laid out alike in memory."""
    return len(one) == len(other) and all(
        a.dtype == b.dtype and a.stride() == b.stride() and torch.equal(a, b)
        for a, b in zip(one, other, strict=True)
    )
