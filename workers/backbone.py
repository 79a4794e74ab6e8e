"""Head and backbone of a network, trained differently: at another rate, or the backbone not at all.

A recipe that asks for neither gets what it always had: all parameters alike, in their order.
"""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from models_store import heads
from models_store.fields import Recipe


def parameters(network: nn.Module, recipe: Recipe) -> list[Any]:
    """What an optimizer is to be given: parameters, or groups of them, the backbone's first.

    Freezes the backbone where the recipe says so: its parameters get no gradients any more, and
    are none of the optimizer's.
    """
    if not recipe.freeze_backbone and recipe.head_lr is None:
        return [parameter for parameter in network.parameters() if parameter.requires_grad]
    names = heads.of(recipe.architecture, network)
    head = [value for key, value in network.named_parameters() if key in names]
    backbone = [
        value
        for key, value in network.named_parameters()
        if key not in names and value.requires_grad
    ]
    rate = {} if recipe.head_lr is None else {"lr": recipe.head_lr}
    if not recipe.freeze_backbone:
        return [{"params": backbone}, {"params": head, **rate}]
    for parameter in backbone:
        parameter.requires_grad_(False)
    return [{"params": head, **rate}]


def train(network: nn.Module) -> None:
    """Training mode, but for normalization whose parameters are frozen: its statistics are too."""
    network.train()
    for module in network.modules():
        if isinstance(module, _BatchNorm) and _is_frozen(module):
            module.eval()


def _is_frozen(module: nn.Module) -> bool:
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)
