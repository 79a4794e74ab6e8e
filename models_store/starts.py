"""A checkpoint that another network starts from: the fields that follow from it, whether its
weights fit, and how they are put in.

Knows neither rows nor where checkpoints lie.
"""

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from models_store import architectures, fitting, heads, misfits
from models_store.architectures import Plan
from models_store.manifest import Manifest
from problems import Problem


def follows(start: Manifest, chosen: Mapping[str, Any], said: Collection[str]) -> dict[str, Any]:
    """Fields of a recipe that follow from the checkpoint, where nobody `said` others: its network,
    and the images that it knows. Raises `Problem` invalid_request beside `pretrained`.
    """
    if chosen["pretrained"] and "pretrained" in said:
        raise misfits.invalid(
            ["pretrained"],
            "Both pretrained and init_from are given: a network starts from one of them.",
            "Leave pretrained out.",
        )
    pre = start.preprocessing
    normalize = None if pre.normalize is None else pre.normalize.model_dump()
    fields: dict[str, Any] = {
        "architecture": _open_end(start),
        "image_size": list(pre.input_size),
        "channels": pre.channels,
        "normalize": normalize,
        "pretrained": False,
    }
    if "channels" in said and chosen["channels"] != pre.channels:  # said to be a misfit later
        del fields["normalize"]
    return {key: value for key, value in fields.items() if key not in said} | {
        "init_from": start.id
    }


def check(planned: Plan, start: Manifest) -> None:
    """Raises `Problem` weights_misfit when the checkpoint is of another network than the plan's,
    however many classes either has.
    """
    ours, theirs = architectures.outline(planned), architectures.outline(_plan_of(start))
    head = heads.of(planned.architecture, ours)
    try:
        fitting.check(_backbone(theirs, head), _backbone(ours, head), of="init_from")
    except Problem as misfit:
        raise Problem(
            misfit.code,
            f"The network is another than that of {start.id}. {misfit.detail}",
            hint="Leave architecture, image_size and channels out: they are then those of the "
            "checkpoint.",
            errors=misfit.errors,
        ) from None


def anew(planned: Plan, start: Manifest, classes: Sequence[str]) -> list[str]:
    """Parameters that begin as they are drawn: those of the head, where the classes are others or
    its shapes are.
    """
    ours, theirs = architectures.outline(planned), architectures.outline(_plan_of(start))
    head = heads.of(planned.architecture, ours)
    same_shapes = _shapes(ours, of=head) == _shapes(theirs, of=head)
    return [] if same_shapes and list(classes) == start.classes else sorted(head)


def fill(network: nn.Module, state: Mapping[str, torch.Tensor], *, but: Collection[str]) -> None:
    """Puts the weights of a checkpoint into a network that it fits, in place."""
    kept = {key: value for key, value in state.items() if key not in but}
    network.load_state_dict(kept, strict=not but)


def _plan_of(start: Manifest) -> Plan:
    pre = start.preprocessing
    return architectures.plan(
        start.architecture,
        channels=pre.channels,
        size=pre.input_size,
        classes=len(start.classes),
    )


def _shapes(network: nn.Module, *, of: Collection[str]) -> fitting.Shapes:
    shapes = fitting.shapes(network.state_dict())
    return {key: shape for key, shape in shapes.items() if key in of}


def _backbone(network: nn.Module, head: Collection[str]) -> fitting.Shapes:
    return _shapes(network, of=network.state_dict().keys() - set(head))


def _open_end(start: Manifest) -> str | dict[str, Any]:
    """Its network without the number of classes, if the last Linear of a list of layers says it."""
    if isinstance(start.architecture, str):
        return start.architecture
    opened = copy.deepcopy(start.architecture)
    last = _last_linear(opened["layers"])
    # One with other outputs is a part of the backbone, as before a Conv2d that makes the classes.
    if last is not None and last.get("out_features") == len(start.classes):
        del last["out_features"]
    return opened


def _last_linear(layers: Sequence[Any]) -> Any:
    """The one that `shapes` lets have as many outputs as there are classes, if there is any."""
    for layer in reversed(layers):
        if layer["type"] == "Linear":
            return layer
        for inner in (layer.get("shortcut", ()), layer.get("layers", ())):
            if (found := _last_linear(inner)) is not None:
                return found
    return None
