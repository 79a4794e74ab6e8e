"""What a CPU computes faster is what PyTorch computes."""

import copy

import pytest
import torch
from torch import nn

from tests.workers.quickened import computed, pair
from workers import kernels

GREY = [
    nn.Conv2d(1, 10, 5),
    nn.ReLU(),
    nn.MaxPool2d(2, 2),
    nn.Conv2d(10, 20, 3),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(2000, 10),
]
COLOUR = [
    nn.Conv2d(3, 32, 5, padding=2),
    nn.MaxPool2d(2),
    nn.Conv2d(32, 8, 3, padding=1),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(512, 10),
]
FOLLOWED = [
    nn.Conv2d(3, 4, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Sequential(nn.LeakyReLU(inplace=True), nn.ReLU(), nn.MaxPool2d(2)),
    nn.LeakyReLU(inplace=True),
    nn.Flatten(),
    nn.Linear(64, 10),
]
# What the last layer but one overwrites is what the pool gave: one pixel is flat as it is.
PASSED_ON = [
    nn.Conv2d(3, 20, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Dropout(0.0),
    nn.Flatten(),
    nn.LeakyReLU(inplace=True),
    nn.Linear(20, 10),
]
ODD = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 3 * 3, 10)]


def images(channels: int, side: int, count: int = 6) -> torch.Tensor:
    """With a black quarter, where all that is computed is equal."""
    made = torch.rand(count, side, side, channels, generator=torch.Generator().manual_seed(1))
    made[:, : side // 2, : side // 2] = 0
    return made.permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("layers", "channels", "side"), [(GREY, 1, 28), (COLOUR, 3, 32), (ODD, 3, 9)]
)
def test_in_float32_it_is_the_same_to_the_bit(
    layers: list[nn.Module], channels: int, side: int
) -> None:
    network, quick = pair(layers)
    given = images(channels, side)

    plain, ours = (computed(one, given, bf16=False) for one in (network, quick))

    assert any(type(module).__module__ == "workers.kernels" for module in quick.modules())
    for name, value in plain.items():
        assert torch.equal(ours[name], value), name


@pytest.mark.parametrize(
    ("layers", "channels", "side"), [(GREY, 1, 28), (COLOUR, 3, 32), (ODD, 3, 9)]
)
def test_in_bf16_outputs_are_the_same_and_gradients_but_for_equal_pixels(
    layers: list[nn.Module], channels: int, side: int
) -> None:
    network, quick = pair(layers)
    given = images(channels, side)

    for _ in range(2):  # a first convolution goes two ways
        network.zero_grad()
        quick.zero_grad()
        plain, ours = (computed(one, given, bf16=True) for one in (network, quick))

        assert torch.equal(ours["outputs"], plain["outputs"])
        for name, value in plain.items():
            distance = (ours[name] - value).norm() / value.norm()
            assert distance < 0.02, name


def test_names_and_weights_stay_and_what_it_predicts_is_the_same() -> None:
    network, quick = pair(COLOUR)
    given = images(3, 32)

    with torch.inference_mode():
        assert torch.equal(quick(given), network(given))
    assert list(quick.state_dict()) == list(network.state_dict())
    assert isinstance(quick[1], nn.MaxPool2d)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(("layers", "side"), [(FOLLOWED, 16), (PASSED_ON, 2)])
def test_what_a_pool_gave_may_be_changed_in_place(
    layers: list[nn.Module], side: int, bf16: bool
) -> None:
    network, quick = pair(layers)
    given = images(3, side)

    plain, ours = (computed(one, given, bf16=bf16) for one in (network, quick))

    assert torch.equal(ours["outputs"], plain["outputs"])
    for name, value in plain.items():
        assert (ours[name] - value).norm() < 0.02 * value.norm(), name


@pytest.mark.parametrize("rectifies", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_pool_gives_each_gradient_to_its_largest_pixel(
    dtype: torch.dtype, rectifies: bool
) -> None:
    layers: list[nn.Module] = [nn.MaxPool2d(2)]
    quick = nn.Sequential(*([nn.ReLU()] if rectifies else []), *layers)
    network = copy.deepcopy(quick)
    kernels.quicken(quick)
    numbers = torch.arange(-96, 96, dtype=torch.float32)  # no two of them are equal
    order = torch.randperm(192, generator=torch.Generator().manual_seed(0))
    given = numbers[order].view(2, 4, 4, 6).permute(0, 3, 1, 2).to(dtype)  # in channels_last
    back = torch.arange(1.0, 49.0).view(2, 6, 2, 2).to(dtype)

    seen = []
    for one in (network, quick):
        own = given.detach().requires_grad_()
        one(own).backward(back)
        seen.append(own.grad)

    assert seen[0] is not None
    assert seen[1] is not None
    assert torch.equal(seen[0], seen[1])
    assert torch.count_nonzero(seen[1]) <= 48


def test_other_pools_stay_as_they_are() -> None:
    others = [nn.MaxPool2d(3), nn.MaxPool2d(2, 1), nn.MaxPool2d(2, ceil_mode=True)]
    network = nn.Sequential(*others, nn.MaxPool2d(2, padding=1), nn.ReLU(), nn.AvgPool2d(2))

    kernels.quicken(network)

    assert {type(module).__module__.partition(".")[0] for module in network} == {"torch"}
