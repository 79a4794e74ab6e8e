"""What is computed from a tape is what was computed while it was made, with other tensors."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from workers.tapes import Recorder, Tape, whole

Tensors = tuple[torch.Tensor, ...]
BUFFER, WEIGHT = torch.zeros(3), torch.tensor([1.0, -2.0, 0.5])


def taped(
    compute: Callable[[torch.Tensor], torch.Tensor | Tensors], given: torch.Tensor
) -> tuple[Recorder, Tape | None]:
    """Of what is computed of one tensor, `BUFFER` and `WEIGHT`."""
    with torch.no_grad(), (recorder := Recorder({"given": given}, [BUFFER, WEIGHT])):
        made = compute(given)
    return recorder, recorder.tape(made if isinstance(made, tuple) else [made])


def again(tape: Tape | None, given: torch.Tensor) -> Tensors:
    assert tape is not None
    with torch.no_grad():
        return tape(given)


def test_it_is_done_again_for_other_tensors() -> None:
    def compute(given: torch.Tensor) -> Tensors:
        hidden = (given * WEIGHT).relu_()
        first, second = torch.cat([hidden, given]).double().unbind()
        return first.to(torch.bfloat16), hidden.t(), second.sum(0, keepdim=True)

    _, tape = taped(compute, torch.rand(1, 3))

    other = torch.randn(1, 3)
    for found, expected in zip(again(tape, other), compute(other), strict=True):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)


def test_gradients_are_on_it_and_those_of_a_network_in_bf16_too() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 5))

    def compute(images: torch.Tensor) -> list[torch.Tensor]:
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(images)
        functional.cross_entropy(logits.float(), labels).backward()
        return [weight.grad for weight in network.parameters() if weight.grad is not None]

    labels, images, others = torch.arange(5), torch.rand(5, 1, 6, 6), torch.rand(5, 1, 6, 6)
    lasting = [*network.parameters(), *network.buffers(), labels]
    with (recorder := Recorder({"images": images}, lasting)):
        made = compute(images)
    tape = recorder.tape(made)
    before = network[1].running_mean.clone()

    found = again(tape, others)

    assert not torch.equal(network[1].running_mean, before)
    for one, expected in zip(found, compute(others), strict=True):
        assert torch.equal(one, expected)


def test_what_lasts_is_changed_in_place_each_time() -> None:
    def compute(given: torch.Tensor) -> torch.Tensor:
        return BUFFER.add_(given).clone()

    BUFFER.zero_()
    _, tape = taped(compute, torch.ones(3))
    [found] = again(tape, torch.full((3,), 2.0))

    assert found.tolist() == BUFFER.tolist() == [3.0] * 3


def test_chance_is_drawn_anew() -> None:
    def compute(given: torch.Tensor) -> torch.Tensor:
        return functional.dropout(given, 0.5, training=True)

    _, tape = taped(compute, torch.ones(64))
    found = [again(tape, torch.ones(64))[0] for _ in range(2) if torch.manual_seed(5)]

    torch.manual_seed(5)
    assert torch.equal(found[0], compute(torch.ones(64)))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], again(tape, torch.ones(64))[0])


def test_a_whole_function_is_called_each_time_and_its_kernels_are_not_on_the_tape() -> None:
    calls: list[float] = []

    @whole
    def twice(given: torch.Tensor, factor: float) -> tuple[torch.Tensor, None]:
        calls.append(factor)
        return given * factor if len(calls) < 2 else given * 10, None

    _, tape = taped(lambda given: twice(given, 2.0)[0], torch.ones(2))

    assert again(tape, torch.ones(2))[0].tolist() == [10.0, 10.0]
    assert twice(torch.ones(1), 3.0)[0].tolist() == [10.0]
    assert calls == [2.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("compute", "reason"),
    [
        (lambda given: given * float(given.sum()), "looks at numbers"),
        (lambda given: given * torch.ones(1).uniform_(), None),
        (lambda given: given * FOREIGN, "not the network's"),
        (lambda _: FOREIGN, "not the network's"),
    ],
)
def test_what_may_be_another_next_time_is_not_put_on_it(
    compute: Callable[[torch.Tensor], torch.Tensor], reason: str | None
) -> None:
    recorder, tape = taped(compute, torch.ones(3))

    assert (tape is None) == (reason is not None)
    assert (reason or "") in (recorder.reason or "")


FOREIGN = torch.ones(3)
