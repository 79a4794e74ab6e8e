"""Which networks begin with what the training images are like."""

import torch
from torch import nn

from models_store import architectures, whitening
from models_store.preprocess import to_input
from workers import backbone, whitened
from workers.batches import Samples
from workers.steps import Run

CPU = torch.device("cpu")
RUN = Run(device=CPU, precision="fp32", normalize=None, stopped=lambda: False)
PIXELS = torch.randint(
    0, 256, (2500, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
# In the order of a folder: class by class.
TRAIN = Samples(PIXELS, torch.arange(2500) // 250, torch.arange(100, 2500))


def begun(name: str) -> nn.Module:
    planned = architectures.plan(name, channels=3, size=(32, 32), classes=10)
    torch.manual_seed(0)
    network = architectures.build(planned)
    whitened.begin(network, planned, TRAIN, RUN)
    return network


def test_its_filters_are_those_of_training_images_of_all_classes() -> None:
    network = begun("cifar10_fast")

    expected = whitening.filters(to_input(PIXELS[100:2100], None), (2, 2))
    assert torch.equal(network.get_parameter("model.0.weight"), expected)


def test_what_is_fixed_is_none_of_the_optimizers(recipe) -> None:
    network = begun("cifar10_fast")

    given = backbone.parameters(network, recipe(architecture="cifar10_net"))

    assert all(parameter.requires_grad for parameter in given)
    assert len(given) == sum(1 for one in network.parameters() if one.requires_grad)


def test_other_networks_are_left_as_they_are() -> None:
    network = begun("resnet_small")

    assert all(parameter.requires_grad for parameter in network.parameters())
