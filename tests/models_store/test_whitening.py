"""A network that begins with filters of the images' own."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from models_store import architectures, whitening


def smooth(count: int, channels: int) -> torch.Tensor:
    """Images whose pixels are like their neighbours, and channels like each other."""
    chance = torch.Generator().manual_seed(0)
    noise = torch.randn(count, channels, 34, 34, generator=chance)
    blurred = functional.avg_pool2d(noise, 3, stride=1)
    return 10 * (blurred + blurred.mean(1, keepdim=True))


def network(channels: int = 3) -> nn.Module:
    planned = architectures.plan("cifar10_fast", channels=channels, size=(32, 32), classes=10)
    torch.manual_seed(0)
    return architectures.build(planned)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_leaves_the_filters_is_uncorrelated_and_of_one_size(channels: int) -> None:
    inputs = smooth(64, channels)

    found = whitening.filters(inputs, (2, 2))

    half = len(found) // 2
    assert half == channels * 4
    assert torch.equal(found[half:], -found[:half])
    out = functional.conv2d(inputs, found[:half]).transpose(0, 1).flatten(1)
    torch.testing.assert_close(out @ out.T / out.shape[1], torch.eye(half), atol=0.02, rtol=0)


def test_directions_without_any_difference_are_not_blown_up() -> None:
    found = whitening.filters(torch.ones(4, 3, 8, 8), (2, 2))

    assert found.abs().max() < 50


def test_filters_and_scales_are_not_trained() -> None:
    net = network()
    inputs = smooth(64, 3)

    whitening.begin(net, inputs)

    fixed = {name for name, one in net.named_parameters() if not one.requires_grad}
    assert "model.0.weight" in fixed
    assert fixed - {"model.0.weight"} == {
        f"{name}.weight"
        for name, one in net.named_modules()
        if isinstance(one, nn.BatchNorm2d) and one.affine
    }
    first = net.get_parameter("model.0.weight")
    assert torch.equal(first, whitening.filters(inputs, (2, 2)))
    assert not net.get_parameter("model.0.bias").any()


def test_grey_images_fill_as_many_filters_as_they_have() -> None:
    net = network(channels=1)
    before = net.get_parameter("model.0.weight").clone()

    whitening.begin(net, smooth(64, 1))

    first = net.get_parameter("model.0.weight")
    assert torch.equal(first[8:], before[8:])
    assert not torch.equal(first[:8], before[:8])
