"""Networks by name or as lists of layers: their plan (shapes, parameters), and the real thing.

Shapes are computed, not tried: a forward pass on PyTorch's meta device would import 900 modules,
which takes as long as importing torch, in each training process anew. Knows nothing of training.
"""

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from models_store import zoo
from models_store.catalogue import ARCHITECTURES, Architecture
from models_store.layers import LayerList
from models_store.shapes import FORMULA, Layer, Misfit, trace, written
from problems import Problem, did_you_mean, match

__all__ = ["ARCHITECTURES", "Architecture", "Layer", "Plan", "build", "canonical", "flops", "plan"]

MOST_PARAMETERS = 10**9
"""Of a network: 4 GB of weights, and twice or three times that to train them."""

_LAYERS = ("body", "architecture", "layers")
# Arguments that follow from the layer before, or change no number.
_NEEDLESS = frozenset({"in_channels", "in_features", "num_features", "inplace"})
_FORMULA = f"the output side of a convolution or pooling is {FORMULA}."


@dataclass(frozen=True, slots=True)
class Plan:
    """A network whose every size is known; `architecture` is its name, or its list as JSON."""

    architecture: str | dict[str, Any]
    input_shape: tuple[int, int, int]
    classes: int
    layers: tuple[Layer, ...]
    prefix: str

    @property
    def parameters(self) -> int:
        """Number of trained numbers."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def normalises_batches(self) -> bool:
        """Whether it has a BatchNorm, which needs two images or more to train on at once."""
        return any(layer.type.startswith("BatchNorm") for layer in self.layers)


class Network(nn.Module):
    """Layers in a row under `model`, as the notes' training classes hold them."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        logits: torch.Tensor = self.model(images)
        return logits


class Residual(nn.Module):
    """Two lists of layers that take the same input, and whose outputs are added."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        self.shortcut = nn.Sequential()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """The sum."""
        total: torch.Tensor = self.layers(features) + self.shortcut(features)
        return total


def canonical(name: str) -> str:
    """The name as it is in `ARCHITECTURES`, else in the zoo, which takes a second to be looked at
    the first time. Raises `Problem` architecture_unknown.
    """
    found = match(name, ARCHITECTURES) or match(name, zoo.names())
    if found is None:
        raise Problem(
            "architecture_unknown",
            f"There is no architecture named {name!r}.",
            hint=did_you_mean(name, [*ARCHITECTURES, *zoo.names()]),
            errors=[{"loc": ["body", "architecture"], "msg": "unknown architecture"}],
        )
    return found


def plan(
    architecture: str | Mapping[str, Any],
    *,
    channels: int,
    size: tuple[int, int],
    classes: int,
) -> Plan:
    """Every layer with its shapes for images of `size` (height, width).

    `architecture` is a name or the JSON of a `LayerList`. Raises `Problem`: architecture_unknown;
    network_misfit, layers_misfit that name the layer and the shape that reaches it;
    network_too_large.
    """
    if not isinstance(architecture, str):
        return _plan_own(LayerList.model_validate(architecture), (channels, *size), classes)
    name = canonical(architecture)
    if name in ARCHITECTURES:
        return _plan_named(name, (channels, *size), classes)
    parts = zoo.parts(name, channels=channels, size=size, classes=classes)
    layers = tuple(Layer(index, *part) for index, part in enumerate(parts))
    return Plan(name, (channels, *size), classes, layers, prefix="")


def build(planned: Plan) -> nn.Module:
    """The network, its weights drawn from torch's global generator layer by layer."""
    if of_zoo(planned):
        return zoo.build(str(planned.architecture), **_asked(planned))
    network = Network() if planned.prefix else nn.Sequential()
    for layer in planned.layers:
        holder, _, name = layer.name.rpartition(".")
        made = Residual() if layer.type == "Residual" else _made(layer)
        network.get_submodule(holder).add_module(name, made)
    return network


def is_whitened(planned: Plan) -> bool:
    """Whether it begins with filters that follow from the images: `whitening`."""
    name = planned.architecture
    return isinstance(name, str) and name in ARCHITECTURES and ARCHITECTURES[name].whitened


def outline(planned: Plan) -> nn.Module:
    """The network without memory for its weights, to be given some: they are on the meta device."""
    if of_zoo(planned):
        return zoo.outline(str(planned.architecture), **_asked(planned))
    with torch.device("meta"):
        return build(planned)


def flops(planned: Plan) -> int:
    """Floating point operations of one image's forward pass; a multiply-add counts as two."""
    if of_zoo(planned):
        return zoo.flops(str(planned.architecture), **_asked(planned))
    return sum(layer.flops for layer in planned.layers)


def of_zoo(planned: Plan) -> bool:
    """Whether it is one of torchvision's networks."""
    return isinstance(planned.architecture, str) and planned.architecture not in ARCHITECTURES


def _asked(planned: Plan) -> dict[str, Any]:
    """What a plan was made for."""
    channels, *size = planned.input_shape
    return {"channels": channels, "size": tuple(size), "classes": planned.classes}


def _made(layer: Layer) -> nn.Module:
    cls: type[nn.Module] = getattr(nn, layer.type)
    return cls(**layer.arguments)


@functools.lru_cache(maxsize=256)
def _plan_named(name: str, input_shape: tuple[int, int, int], classes: int) -> Plan:
    known = ARCHITECTURES[name]
    try:
        layers, _ = trace(known.network.layers, input_shape, classes=classes, prefix=known.prefix)
    except Misfit as misfit:
        raise _size_misfit(name, misfit, input_shape[0]) from misfit
    return _within_limits(Plan(name, input_shape, classes, layers, known.prefix), ["image_size"])


@functools.lru_cache(maxsize=256)
def _plan_own(own: LayerList, input_shape: tuple[int, int, int], classes: int) -> Plan:
    try:
        layers, output = trace(own.layers, input_shape, classes=classes, prefix="model.")
    except Misfit as misfit:
        raise _layers_misfit(misfit) from misfit
    for layer in layers:
        _check_known_to_pytorch(layer)
    planned = Plan(own.canonical(), input_shape, classes, layers, "model.")
    if output != (classes,):
        raise _wrong_end(len(own.layers) - 1, output, classes)
    if not planned.parameters:
        raise Problem(
            "layers_misfit",
            "There is nothing to train: no layer has a parameter.",
            hint="Conv2d, BatchNorm2d and Linear have.",
            errors=[{"loc": [*_LAYERS], "msg": "nothing to train"}],
        )
    return _within_limits(planned, ["architecture"])


def _check_known_to_pytorch(layer: Layer) -> None:
    """BatchNorm2d has its `bias` only in newer ones than danlu asks for."""
    if layer.type == "Residual":
        return
    known = inspect.signature(getattr(nn, layer.type)).parameters
    for name in layer.arguments:
        if name not in known:
            message = f"{layer.type} has no {name} in PyTorch {torch.__version__}"
            raise Problem(
                "invalid_request",
                f"{message}, which is installed here.",
                hint=f"Leave {name} out, or install a newer PyTorch.",
                errors=[{"loc": [*_LAYERS, name], "msg": message}],
            )


def _within_limits(planned: Plan, blamed: list[str | int]) -> Plan:
    """The plan. Raises `Problem` network_too_large."""
    if planned.parameters <= MOST_PARAMETERS:
        return planned
    raise Problem(
        "network_too_large",
        f"The network would have {planned.parameters:,} parameters; {MOST_PARAMETERS:,} are the "
        "most.",
        errors=[{"loc": ["body", *blamed], "msg": "too many parameters"}],
    )


def _told(misfit: Misfit, of: str = "") -> str:
    """A sentence for people: which layer, and what reaches it."""
    given = ", ".join(f"{name}={value!r}" for name, value in misfit.layer.given().items())
    unit = " (channels x height x width)" if len(misfit.shape) == 3 else ""
    return (
        f"Layer {misfit.path}{of}, {misfit.layer.type}({given}), cannot take the "
        f"{written(misfit.shape)} that reaches it{unit}: {misfit.reason}."
    )


def _size_misfit(name: str, misfit: Misfit, channels: int) -> Problem:
    smallest = _smallest(name, channels)
    return Problem(
        "network_misfit",
        _told(misfit, of=f" of {name}"),
        hint=f"Use an image_size of {smallest} or more: {_FORMULA}",
        errors=[{"loc": ["body", "image_size"], "msg": f"smaller than {smallest}"}],
    )


def _layers_misfit(misfit: Misfit) -> Problem:
    hint = f"Change the layer, one before it, or image_size: {_FORMULA}"
    if misfit.field in _NEEDLESS:
        hint = f"Leave {misfit.field} out."
    steps = [int(step) if step.isdecimal() else step for step in misfit.path.split(".")]
    field = [] if misfit.field is None else [misfit.field]
    return Problem(
        "layers_misfit",
        _told(misfit),
        hint=hint,
        errors=[{"loc": [*_LAYERS, *steps, *field], "msg": misfit.reason}],
    )


def _wrong_end(last: int, output: tuple[int, ...], classes: int) -> Problem:
    message = f"{written(output)} leaves the network, and {classes} must: a number for each class"
    return Problem(
        "layers_misfit",
        f"{message}.",
        hint='End with {"type": "Flatten"} and {"type": "Linear"}, whose out_features are then the '
        "number of classes.",
        errors=[{"loc": [*_LAYERS, last], "msg": message}],
    )


@functools.lru_cache(maxsize=64)
def _smallest(name: str, channels: int) -> int:
    """Side of the smallest square image that the network takes."""
    known = ARCHITECTURES[name]
    side = 1
    while True:
        try:
            trace(known.network.layers, (channels, side, side), classes=2, prefix="")
        except Misfit:
            side += 1
        else:
            return side
