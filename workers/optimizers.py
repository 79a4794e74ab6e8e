"""PyTorch's optimizers and schedulers from the words of a recipe.

Arguments were checked by `models_store.arguments`; knows nothing of losses or data.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler


def build(
    chosen: Mapping[str, Any], parameters: Iterable[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    """`{"name": "SGD", "lr": …}` as `torch.optim.SGD(parameters, lr=…)`."""
    name, arguments = _split(chosen)
    if "betas" in arguments:
        arguments["betas"] = tuple(arguments["betas"])  # JSON has no tuples
    optimizer: torch.optim.Optimizer = getattr(torch.optim, name)(parameters, **arguments)
    return optimizer


def schedule(
    chosen: Mapping[str, Any] | None, optimizer: torch.optim.Optimizer, *, steps: int
) -> LRScheduler | None:
    """The scheduler over `steps` optimizer steps, to be stepped after each; None for none."""
    if chosen is None:
        return None
    name, arguments = _split(chosen)
    if name == "OneCycleLR" and arguments["pct_start"] * steps == 1:
        arguments["pct_start"] += 1e-6  # a rise of exactly one step divides by zero in PyTorch
    scheduler: LRScheduler = getattr(torch.optim.lr_scheduler, name)(
        optimizer, total_steps=steps, **arguments
    )
    return scheduler


def _split(chosen: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    arguments = dict(chosen)
    return arguments.pop("name"), arguments
