"""The head of a network: the layer whose outputs are the classes. All else is its backbone."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from models_store import zoo
from models_store.catalogue import ARCHITECTURES


def of(architecture: str | Mapping[str, Any], network: nn.Module) -> frozenset[str]:
    """The head's parameters, by their names in the state_dict.

    Of torchvision's networks what depends on the number of classes; of a list of layers, whose
    name may be ours, the last one that is a Linear or Conv2d.
    """
    if isinstance(architecture, str) and architecture not in ARCHITECTURES:
        return zoo.head(architecture)
    last = [name for name, one in network.named_modules() if isinstance(one, nn.Linear | nn.Conv2d)]
    if not last:  # BatchNorm has weights too
        return frozenset()
    return frozenset(
        f"{last[-1]}.{key}" for key, _ in network.get_submodule(last[-1]).named_parameters()
    )
