"""Why a network answered so: the pixels that it saw, and where among them it found its answer.

Grad-CAM: R. Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", ICCV 2017, equations 1 and 2. Knows no files, no labels and no HTTP.
"""

import copy
import io
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional

from problems import Problem

Method = Literal["input", "gradcam"]

# What leaves these is a coarser copy of the map before them, if it is a map at all.
_POOLS = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
)
_OPACITY = 0.7  # of the heat where it is greatest

_Place = tuple[nn.Module, int]
"""A module, and which of its calls in one pass is meant."""


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels (H, W, C), C being 1 or 3, as a PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(axis=2) if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return file.getvalue()


def heated(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Pixels (H, W, C) in colour, red to yellow where `heat` (H, W), 0 to 1, is great."""
    strength = heat[:, :, None]
    grey = pixels.mean(axis=2, keepdims=True)
    colour = np.concatenate(
        [np.full_like(strength, 255), 255 * strength, np.zeros_like(strength)], axis=2
    )
    opacity = _OPACITY * strength
    mixed: NDArray[np.uint8] = ((1 - opacity) * grey + opacity * colour).round().astype(np.uint8)
    return mixed


def gradcam(
    network: nn.Module, inputs: torch.Tensor, classes: Sequence[int]
) -> NDArray[np.float32]:
    """Where in each input (N, C, H, W) of a network in eval mode the evidence for its class lies:
    (N, H, W), 0 to 1, computed in float32. 1 is the greatest of an image; all 0: there is none.

    Others may compute with the network meanwhile. Raises `Problem` no_feature_map.
    """
    own = _copy(network)
    place = _last_map(own, inputs[:1])
    if place is None:
        raise Problem("no_feature_map", "No layer of this network keeps a map of the image.")
    features, gradients = _at(place, own, inputs, classes)
    weights = gradients.mean(dim=(2, 3), keepdim=True)  # equation 1
    heat = (weights * features).sum(dim=1, keepdim=True).relu()  # equation 2
    heat = functional.interpolate(
        heat, inputs.shape[2:], mode="bilinear", align_corners=False
    ).squeeze(1)
    greatest = heat.amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(heat.dtype).tiny)
    found: NDArray[np.float32] = (heat / greatest).cpu().numpy()
    return found


def _copy(network: nn.Module) -> nn.Module:
    """Modules of our own, to hang hooks on, around the same weights; those of 16 bits widened."""
    known: dict[int, Any] = {
        id(one): nn.Parameter(one.detach().float(), requires_grad=False)
        for one in network.parameters()
    }
    for one in network.buffers():
        known[id(one)] = one.float() if one.is_floating_point() else one
    return copy.deepcopy(network, known)


def _last_map(network: nn.Module, inputs: torch.Tensor) -> _Place | None:
    """The last call whose output is a map (N, channels, height, width) of more than one place,
    before it is pooled; None if there is none.
    """
    calls: Counter[nn.Module] = Counter()
    pooled: list[Any] = []
    maps: list[_Place] = []
    # torchvision's Swin has its channels last until this module.
    only = getattr(network, "permute", None)

    def note(module: nn.Module, _given: Any, output: Any) -> None:
        calls[module] += 1
        if isinstance(module, _POOLS):
            pooled.append(output)
        elif isinstance(module, nn.MultiheadAttention):
            maps.clear()  # each place has seen all others: a map before it explains nothing
        # A list of layers that ends in a pool gives what the pool gave.
        elif (
            only in (None, module) and _is_map(output) and all(output is not one for one in pooled)
        ):
            maps.append((module, calls[module]))

    handles = [module.register_forward_hook(note) for module in network.modules()]
    with torch.no_grad():
        network(inputs)
    for handle in handles:
        handle.remove()
    return maps[-1] if maps else None


def _is_map(output: Any) -> bool:
    return isinstance(output, torch.Tensor) and output.ndim == 4 and output[0, 0].numel() > 1


def _at(
    place: _Place, network: nn.Module, inputs: torch.Tensor, classes: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """What leaves a place for each image, and how its class's logit changes with each number."""
    wanted, number = place
    calls = 0
    kept: list[torch.Tensor] = []

    def keep(_module: nn.Module, _given: Any, output: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls != number:
            return output
        kept.append(output.detach().requires_grad_())
        return kept[0].clone()  # which the next layer may overwrite

    wanted.register_forward_hook(keep)
    with torch.enable_grad():
        logits = network(inputs)
        chosen = logits[torch.arange(len(classes)), torch.as_tensor(classes)]
        (gradients,) = torch.autograd.grad(chosen.sum(), kept[0])
    return kept[0].detach(), gradients
