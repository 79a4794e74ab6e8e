"""The beginning of a network whose first convolution whitens: what leaves it is uncorrelated and
about as large everywhere, so that the layers behind it learn quickly.

Its filters follow from the images; knows nothing of data sets.
"""

import torch
from torch import nn
from torch.nn import functional

# Directions in which patches hardly differ are noise: they are not blown up beyond this.
_LEAST_VARIANCE = 5e-4


def filters(inputs: torch.Tensor, kernel: tuple[int, int]) -> torch.Tensor:
    """(2 * C * h * w, C, h, w) for inputs (N, C, H, W) and a kernel of (h, w), in float32.

    Of the patches p, E[p p^T] = V diag(v) V^T; each filter is a column of V over sqrt(v), and
    once more with its sign turned, since what follows cuts off what is negative.
    """
    patches = functional.unfold(inputs.double(), kernel).transpose(1, 2).flatten(0, 1)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    found = (vectors / (values.clamp(min=0) + _LEAST_VARIANCE).sqrt()).T
    shaped = found.reshape(-1, inputs.shape[1], *kernel)
    return torch.cat([shaped, -shaped]).float()


@torch.no_grad()
def begin(network: nn.Module, inputs: torch.Tensor) -> None:
    """Gives the first convolution the filters of some inputs (N, C, H, W), as many as it has room
    for, and no bias. They are never trained, nor are the scales of BatchNorm: the weights in front
    of it have scales of their own.
    """
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    height, width = first.kernel_size
    found = filters(inputs, (height, width))[: first.out_channels]
    first.weight[: len(found)] = found
    first.weight.requires_grad_(False)
    if first.bias is not None:
        first.bias.zero_()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            module.weight.requires_grad_(False)
