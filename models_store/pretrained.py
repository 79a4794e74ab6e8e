"""Published weights of torchvision's networks: which file it is, what its images look like, and how
it is put into a network with a head of its own.

Knows nothing of where files come from or lie: whoever hands one over has compared its checksum.
"""

import pickle
import re
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models_store import architectures, zoo
from problems import Problem

_CHECKSUM = re.compile(r"-([0-9a-f]{8,64})\.pth$")
# DenseNets were published when names of modules could hold dots.
_DOTTED = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


@dataclass(frozen=True, slots=True)
class Published:
    """A file of weights. `sha256` is how its checksum begins; `mean` and `std` are of three
    channels from 0 to 1.
    """

    file: str
    url: str
    sha256: str
    bytes: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def published(name: str) -> Published | None:
    """The best weights of a network of the zoo; None if there are none."""
    from torchvision import models

    weights = getattr(models.get_model_weights(name), "DEFAULT", None)
    if weights is None:
        return None
    file = weights.url.rpartition("/")[2]
    found = _CHECKSUM.search(file)
    images = weights.transforms()
    mean, std = tuple(images.mean), tuple(images.std)
    if zoo.family(name) in ("googlenet", "inception"):
        # Made elsewhere, with pixels from -1 to 1, into which torchvision turns its usual ones.
        mean = std = (0.5, 0.5, 0.5)
    return Published(
        file=file,
        url=weights.url,
        sha256=found[1] if found else "",
        bytes=round(weights.meta["_file_size"] * 2**20),
        size=zoo.native_size(name),
        mean=mean,
        std=std,
    )


def completed(chosen: Mapping[str, Any], said: Collection[str]) -> dict[str, Any]:
    """Fields that follow from a recipe's `pretrained`, `freeze_backbone` and `head_lr`: the
    network's name as the zoo has it, image size and normalization of the weights, where nobody
    `said` others.

    Raises `Problem` invalid_request for what makes no sense together, and architecture_unknown.
    """
    network = chosen["architecture"]
    name = architectures.canonical(network) if isinstance(network, str) else None
    ours = name not in zoo.names()
    weights = None if name is None or ours else published(name)
    _check(chosen, weights, ours=ours)
    if not chosen["pretrained"] or weights is None:
        return {"architecture": name or network}
    follows: dict[str, Any] = {"image_size": weights.size, "normalize": _normalize(weights, chosen)}
    return {key: value for key, value in follows.items() if key not in said} | {
        "architecture": name
    }


def read(path: Path) -> dict[str, torch.Tensor]:
    """A file of weights whose checksum is right. Raises `Problem` weights_unavailable."""
    try:
        # The one place that unpickles: torchvision publishes nothing else. With weights_only it
        # runs no code, and the checksum says that the file is torchvision's.
        state = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise _unusable(path.name, "cannot be read") from error
    if not isinstance(state, dict):
        raise _unusable(path.name, "holds no weights")
    return state


def fill(network: nn.Module, name: str, state: Mapping[str, Any]) -> None:
    """Puts published weights into everything but the head, in place; a grey network takes the sums
    of the first kernels, a vision transformer of another size positions in between.

    Raises `Problem` weights_unavailable when they do not fit.
    """
    ours, head = network.state_dict(), zoo.head(name)
    theirs = {_DOTTED.sub(r"\1\2", key): value for key, value in state.items()}
    wanted = OrderedDict((k, theirs[k]) for k in ours if k in theirs and k not in head)
    stem, _ = zoo.first_convolution(network)
    wanted = _resized(network, wanted, of=f"{stem}.weight")
    strange = [key for key, value in wanted.items() if value.shape != ours[key].shape]
    absent = ours.keys() - wanted.keys() - head
    absent = {key for key in absent if not key.endswith("num_batches_tracked")}
    if strange or absent:
        first = min([*strange, *absent])
        raise _unusable(f"The file for {name}", f"does not fit it, at {first}")
    # PyTorch keeps the version of each module in this attribute, which no type tells of.
    wanted._metadata = getattr(state, "_metadata", None)  # type: ignore[attr-defined]
    network.load_state_dict(wanted, strict=False)


def _resized(
    network: nn.Module, state: "OrderedDict[str, torch.Tensor]", *, of: str
) -> "OrderedDict[str, torch.Tensor]":
    ours = network.state_dict()
    if of in state and (state[of].shape[1], ours[of].shape[1]) == (3, 1):
        state[of] = zoo.grey(state[of])
    positions = "encoder.pos_embedding"
    if positions in state and state[positions].shape != ours[positions].shape:
        from torchvision.models.vision_transformer import interpolate_embeddings

        # Numbers, of a VisionTransformer; of any Module, mypy takes them for parts of it.
        side, patch = int(network.image_size), int(network.patch_size)  # type: ignore[arg-type]
        state = OrderedDict(interpolate_embeddings(side, patch, state))
    return state


def _normalize(weights: Published, chosen: Mapping[str, Any]) -> dict[str, list[float]]:
    if chosen["channels"] == 3:
        return {"mean": list(weights.mean), "std": list(weights.std)}
    return {"mean": [round(sum(weights.mean) / 3, 4)], "std": [round(sum(weights.std) / 3, 4)]}


def _check(chosen: Mapping[str, Any], weights: Published | None, *, ours: bool) -> None:
    name = chosen["architecture"]
    shown = name if isinstance(name, str) else "A network of one's own"
    if chosen["pretrained"] and weights is None:
        raise _senseless("pretrained", f"{shown} has no published weights", "GET /architectures")
    started = chosen["init_from"] is not None
    if ours and not started:
        field = "freeze_backbone" if chosen["freeze_backbone"] else "head_lr"
        why = f"{shown} has no head apart from its backbone"
        raise _senseless(field, why, "GET /architectures")
    if chosen["freeze_backbone"] and chosen["pretrained"] is not True and not started:
        why = "a backbone that may not be pretrained would stay as random as it was drawn"
        raise _senseless("freeze_backbone", why, "pretrained: true")
    if chosen["head_lr"] is not None and not chosen["optimizer"]["lr"]:
        why = "the optimizer's lr is 0, and schedules keep the ratio of the two"
        raise _senseless("head_lr", why, "freeze_backbone")


_HINTS = {
    "GET /architectures": "Take one of torchvision's networks: GET /architectures lists them. "
    "Any network can start from a checkpoint of its own: init_from.",
    "pretrained: true": "Say pretrained: true as well, or init_from.",
    "freeze_backbone": "Say freeze_backbone: true, and give the head's rate as lr.",
}


def _senseless(field: str, why: str, way_out: str) -> Problem:
    return Problem(
        "invalid_request",
        f"{field} makes no sense here: {why}.",
        hint=_HINTS[way_out],
        errors=[{"loc": ["body", field], "msg": why}],
    )


def _unusable(file: str, why: str) -> Problem:
    return Problem("weights_unavailable", f"{file} {why}.")
