"""The front of a network in blocks of memory computes what PyTorch computes without."""

import copy
from collections import Counter

import pytest
import torch
from torch import nn

from models_store import reduced
from tests.workers.quickened import computed, pair
from workers import kernels

pytestmark = pytest.mark.skipif(
    not reduced.is_native(torch.device("cpu")),
    reason="a CPU without bf16 of its own keeps PyTorch's layout",
)

# The notes' for colour, in little; and one with ReLUs before, between and after, with odd sides.
PLAIN = [
    nn.Conv2d(3, 32, 5, padding=2),
    nn.MaxPool2d(2),
    nn.Conv2d(32, 16, 3, padding=1, bias=False),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(16 * 8 * 8, 10),
]
RECTIFIED = [
    nn.Conv2d(3, 16, 3),
    nn.ReLU(),
    nn.Conv2d(16, 16, 3, stride=2),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.ReLU(inplace=True),
    nn.Flatten(),
    nn.Linear(16 * 3 * 3, 10),
]


def images(side: int, seed: int = 0) -> torch.Tensor:
    """Of three colours, in channels_last."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(6, side, side, 3, generator=generator).permute(0, 3, 1, 2)


def is_in_blocks(network: nn.Sequential) -> bool:
    """Whether its front has been changed."""
    return type(network[0]).__module__ == "workers.blocks"


@pytest.mark.parametrize(("layers", "side"), [(PLAIN, 32), (RECTIFIED, 17)])
def test_it_is_as_exact_in_bf16_as_without(layers: list[nn.Module], side: int) -> None:
    errors, our_errors = Counter[str](), Counter[str]()
    for seed in range(12):  # in one alone either may be twice as far off
        network, quick = pair(layers, seed)
        given = images(side, seed)
        true = computed(copy.deepcopy(network).double(), given.double(), bf16=False)
        for one, summed in ((network, errors), (quick, our_errors)):
            for name, value in computed(one, given, bf16=True).items():
                summed[name] += float((value - true[name]).norm() / true[name].norm())
        assert is_in_blocks(quick)
        for weight in quick.parameters():
            assert weight.grad is not None
            assert weight.grad.stride() == weight.stride()

    assert our_errors.keys() == errors.keys()
    for name, error in errors.items():
        assert our_errors[name] < 1.25 * error, name


@pytest.mark.parametrize(("layers", "side"), [(PLAIN, 32), (RECTIFIED, 17)])
def test_in_float32_and_where_nothing_is_learnt_all_bits_are_pytorchs(
    layers: list[nn.Module], side: int
) -> None:
    network, quick = pair(layers)
    given = images(side)

    plain, ours = (computed(one, given, bf16=False) for one in (network, quick))

    for name, value in plain.items():
        assert torch.equal(ours[name], value), name
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quick(given), network(given))


def test_each_gradient_goes_to_the_largest_pixel() -> None:
    eye = nn.Conv2d(1, 16, 1, bias=False)
    nn.init.ones_(eye.weight)
    network = nn.Sequential(eye, nn.MaxPool2d(2), nn.Flatten())
    kernels.quicken(network)
    given = torch.randperm(64, generator=torch.Generator().manual_seed(0)).float()
    given = given.view(1, 1, 8, 8).requires_grad_()  # no two of them are equal

    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(given)
    outputs.float().sum().backward()

    assert given.grad is not None
    largest = nn.functional.max_pool2d(given.detach(), 2).repeat_interleave(2, 2)
    expected = (given.detach() == largest.repeat_interleave(2, 3)) * 16.0
    assert torch.equal(given.grad, expected)


def test_layers_that_are_frozen_get_no_gradient_and_the_others_theirs() -> None:
    network, quick = pair(RECTIFIED)
    for one in (network, quick):
        one[0].requires_grad_(requires_grad=False)

    plain, ours = (computed(one, images(17), bf16=True) for one in (network, quick))

    assert ours.keys() == plain.keys()
    assert "0.weight" not in ours
    for name, value in plain.items():
        assert (ours[name] - value).norm() < 0.05 * value.norm(), name


@pytest.mark.parametrize(
    "layers",
    [
        pytest.param([nn.Conv2d(3, 10, 3), nn.MaxPool2d(2), nn.Flatten()], id="half a block"),
        pytest.param([nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten()], id="no pool"),
        pytest.param([nn.Conv2d(3, 16, 3), nn.MaxPool2d(2)], id="no end"),
        pytest.param([nn.Conv2d(3, 16, 3), nn.MaxPool2d(2), nn.Flatten(2)], id="another end"),
        pytest.param([nn.MaxPool2d(2), nn.Conv2d(3, 16, 3), nn.Flatten()], id="pool first"),
        pytest.param([nn.Conv2d(3, 16, 3), nn.MaxPool2d(3), nn.Flatten()], id="another pool"),
        pytest.param([nn.Conv2d(3, 48, 3, groups=3), nn.MaxPool2d(2), nn.Flatten()], id="groups"),
        pytest.param(
            [nn.Conv2d(3, 16, 3, padding="same"), nn.MaxPool2d(2), nn.Flatten()], id="by a word"
        ),
        pytest.param(
            [nn.Conv2d(3, 16, 3, padding=1, padding_mode="reflect"), nn.MaxPool2d(2), nn.Flatten()],
            id="mirrored",
        ),
        pytest.param(
            [nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.MaxPool2d(2), nn.Flatten()], id="BatchNorm"
        ),
    ],
)
def test_other_networks_stay_in_pytorchs_layout(layers: list[nn.Module]) -> None:
    network = nn.Sequential(*layers)

    kernels.quicken(network)

    assert not is_in_blocks(network)
    with torch.autocast("cpu", torch.bfloat16):
        assert not network(images(12)).is_mkldnn
