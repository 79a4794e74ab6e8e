"""Networks beside what `kernels.quicken` makes of them."""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from workers import kernels


def pair(layers: Sequence[nn.Module], seed: int = 0) -> tuple[nn.Sequential, nn.Sequential]:
    """A network as it is, and quickened; of a seed its weights are the same each time."""
    network = copy.deepcopy(nn.Sequential(*layers)).to(memory_format=torch.channels_last)
    torch.manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.reset_parameters()
    quick = copy.deepcopy(network)
    kernels.quicken(quick)
    return network, quick


def computed(network: nn.Module, given: torch.Tensor, *, bf16: bool) -> dict[str, torch.Tensor]:
    """Outputs, and gradients by the names of their weights."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        outputs = network(given)
    outputs.double().square().sum().backward()
    gradients = {name: one.grad for name, one in network.named_parameters() if one.grad is not None}
    return {"outputs": outputs.detach(), **gradients}
