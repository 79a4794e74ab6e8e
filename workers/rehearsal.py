"""A step of a training that is tried out and leaves no trace: what a device and its libraries do
once (loading kernels, finding the fastest) is done before any epoch.

Knows nothing of epochs, jobs and files.
"""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from workers import backbone, steps
from workers.batches import Batch
from workers.steps import Step, Training


def rehearse(step: Step, index: torch.Tensor, *, moves: bool) -> int:
    """A step on the images `index` (n,); without `moves` the optimizer makes none. Returns the
    bytes of a GPU that it took at once. Within `unchanged` only.

    Raises `Problem` out_of_memory when not even single images fit.
    """
    training = step.training
    backbone.train(training.network)
    before = _begin_to_measure(training.device)
    prepared = steps.prepare(index, step.make, training.preparing)
    for seen in steps.learn(training, Batch(index), prepared, step.run):
        step.meter.count(*step.summed(seen))
    if moves:
        with training.rates():
            training.update()
    training.optimizer.zero_grad(set_to_none=True)
    step.meter.begin()
    on_gpu = training.device.type == "cuda"
    return torch.cuda.max_memory_allocated(training.device) - before if on_gpu else 0


@contextlib.contextmanager
def unchanged(training: Training) -> Iterator[None]:
    """Puts weights, moments and generators back afterwards, to the bit and where they were.

    Moments that were not there before are those of an optimizer that has seen nothing: 0.
    """
    states = training.random_states()
    known = {parameter: dict(state) for parameter, state in training.optimizer.state.items()}
    tensors = [*training.network.parameters(), *training.network.buffers()]
    tensors += [value for state in known.values() for value in _tensors(state)]
    with torch.no_grad():
        kept = [tensor.clone() for tensor in tensors]
    yield
    fresh = [state for one, state in training.optimizer.state.items() if one not in known]
    with torch.no_grad():
        for tensor, before in zip(tensors, kept, strict=True):
            tensor.copy_(before)
        for state in fresh:
            for value in _tensors(state):
                value.zero_()
    training.set_random_states(states)


@contextlib.contextmanager
def without_waiting() -> Iterator[None]:
    """Whatever waits for a GPU raises RuntimeError meanwhile, if PyTorch notices."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is a prototype, says PyTorch
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _begin_to_measure(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _tensors(state: dict[str, Any]) -> list[torch.Tensor]:
    return [value for value in state.values() if isinstance(value, torch.Tensor)]
