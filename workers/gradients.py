"""The gradients of a network put aside, and added to others.

Knows nothing of where they come from.
"""

import torch
from torch import nn


def take(network: nn.Module) -> list[tuple[nn.Parameter, torch.Tensor]]:
    """Those that there are; the network has none any more."""
    taken = []
    for parameter in network.parameters():
        if parameter.grad is not None:
            taken.append((parameter, parameter.grad))
            parameter.grad = None
    return taken


def add(earlier: list[tuple[nn.Parameter, torch.Tensor]]) -> None:
    """What `take` took, to those that there are by now."""
    pairs = []
    for parameter, gradient in earlier:
        if parameter.grad is None:
            parameter.grad = gradient
        else:
            pairs.append((parameter.grad, gradient))
    if pairs:
        torch._foreach_add_(*map(list, zip(*pairs, strict=True)))
