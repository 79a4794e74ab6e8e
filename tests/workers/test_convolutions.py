"""Convolutions in bf16 steps: which gradients there are, and by one thread or by more."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from models_store import reduced
from models_store.fields import Recipe
from tests.workers.quickened import pair
from workers import compiling
from workers.convolutions import Pace, one_way
from workers.steps import Run

# The last convolution of the first three has fewer pixels than its stride; only its middle weight
# meets one. As a first layer, as those of a front in blocks, by itself, in groups.
NARROW = {
    "first": [nn.Conv2d(3, 32, 3, stride=2, padding=1)],
    "blocks": [
        nn.Conv2d(3, 16, 1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.Flatten(),
    ],
    "plain": [nn.Conv2d(3, 16, 1), nn.Conv2d(16, 32, 3, stride=(2, 3), padding=1, bias=False)],
    "groups": [nn.Conv2d(3, 16, 1), nn.Conv2d(16, 32, 3, stride=2, padding=1, groups=4)],
}


def told(pace: Pace, alone: float, together: Callable[[int], float], times: int) -> int:
    """How often it was together."""
    count = 0
    for number in range(times):
        way = pace.together()
        pace.tell(together(number) if way else alone, together=way)
        count += way
    return count


def test_all_threads_do_what_they_do_faster() -> None:
    assert told(Pace(), 2.0, lambda _: 1.0, times=100) == 99


def test_threads_that_are_kept_waiting_are_hardly_ever_tried_again() -> None:
    assert told(Pace(), 1.0, lambda _: 500.0, times=1000) < 8


def test_threads_are_taken_up_again_when_nobody_keeps_them_waiting() -> None:
    pace = Pace()
    told(pace, 1.0, lambda _: 500.0, times=100)

    assert told(pace, 1.0, lambda _: 0.5, times=400) > 200


def test_one_way_is_one_thread_for_as_long_as_bits_are_compared() -> None:
    pace = Pace()
    with one_way():
        assert told(pace, 2.0, lambda _: 1.0, times=10) == 0

    assert told(pace, 2.0, lambda _: 1.0, times=10) == 10


def _leave_rubbish(layer: nn.Conv2d) -> None:
    """Memory that is free again, of the size of its weights, holds no numbers."""
    for dtype in (torch.bfloat16, torch.float32):
        tensors = [torch.full_like(layer.weight, torch.nan, dtype=dtype) for _ in range(8)]
        del tensors


# Without bf16 of its own a CPU has other kernels for it, and jobs on it compute in float32.
@pytest.mark.skipif(not reduced.is_native(torch.device("cpu")), reason="no bf16 on this CPU")
@pytest.mark.parametrize("compiled", [False, True], ids=["as it is", "to be compiled"])
@pytest.mark.parametrize("name", NARROW)
def test_weights_that_meet_only_padding_get_a_gradient_of_zero(name: str, compiled: bool) -> None:
    network, quick = pair(NARROW[name])
    if compiled:
        quick = network
        run = Run(torch.device("cpu"), "bf16", None, stopped=lambda: False)
        compiling.ready(quick, Recipe.model_construct(compile=True), run)
    [*_, last] = [layer for layer in quick if isinstance(layer, nn.Conv2d)]
    given = torch.rand(4, 3, *((2, 2) if name == "blocks" else (1, 1)))

    for _ in range(20):
        quick.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            outputs = quick(given)
        assert outputs.dtype == torch.bfloat16
        _leave_rubbish(last)
        outputs.sum().backward()
        assert last.weight.grad is not None
        assert last.weight.grad[:, :, 1, 1].count_nonzero()
        last.weight.grad[:, :, 1, 1] = 0
        assert torch.equal(last.weight.grad, torch.zeros_like(last.weight))
