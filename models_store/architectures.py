"""Networks as lists of layers: their plan (shapes, parameters) for an input, and the real thing.

Shapes are computed, not tried: a forward pass on PyTorch's meta device would import 900 modules,
which takes as long as importing torch, in each training process anew. Knows nothing of training.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from models_store import zoo
from problems import Problem, did_you_mean, match


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a plan: complete arguments, and the shape (C, H, W) or (F,) that leaves it."""

    index: int
    name: str
    type: str
    arguments: Mapping[str, Any]
    output_shape: tuple[int, ...]
    parameters: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A network whose every size is known."""

    architecture: str
    input_shape: tuple[int, int, int]
    classes: int
    layers: tuple[Layer, ...]
    prefix: str

    @property
    def parameters(self) -> int:
        """Number of trained numbers."""
        return sum(layer.parameters for layer in self.layers)


@dataclass(frozen=True, slots=True)
class Architecture:
    """Layers with what must be said; `prefix` is what state_dict keys start with."""

    summary: str
    input_size: int
    channels: int
    layers: tuple[tuple[str, Mapping[str, Any]], ...]
    prefix: str = "model."


# Where `out_features` is left out, it is the number of classes.
ARCHITECTURES: dict[str, Architecture] = {
    "mnist_net": Architecture(
        "The notes' MNIST network (2.13.1.1): two convolutions, two linear layers.",
        input_size=28,
        channels=1,
        layers=(
            ("Conv2d", {"out_channels": 10, "kernel_size": 5}),
            ("ReLU", {}),
            ("MaxPool2d", {"kernel_size": 2, "stride": 2}),
            ("Conv2d", {"out_channels": 20, "kernel_size": 3}),
            ("ReLU", {}),
            ("Flatten", {}),
            ("Linear", {"out_features": 500}),
            ("ReLU", {}),
            ("Linear", {}),
        ),
    ),
    "cifar10_net": Architecture(
        "The notes' CIFAR-10 network (2.13.1.2): three convolutions, two linear layers.",
        input_size=32,
        channels=3,
        layers=(
            ("Conv2d", {"out_channels": 32, "kernel_size": 5, "stride": 1, "padding": 2}),
            ("MaxPool2d", {"kernel_size": 2}),
            ("Conv2d", {"out_channels": 32, "kernel_size": 5, "stride": 1, "padding": 2}),
            ("MaxPool2d", {"kernel_size": 2}),
            ("Conv2d", {"out_channels": 64, "kernel_size": 5, "stride": 1, "padding": 2}),
            ("MaxPool2d", {"kernel_size": 2}),
            ("Flatten", {}),
            ("Linear", {"out_features": 64}),
            ("ReLU", {}),
            ("Linear", {}),
        ),
    ),
    "lenet5": Architecture(
        "LeNet-5 with sigmoids and average pooling, as the notes print it (2.14.1).",
        input_size=28,
        channels=1,
        layers=(
            ("Conv2d", {"out_channels": 6, "kernel_size": 5, "padding": 2}),
            ("Sigmoid", {}),
            ("AvgPool2d", {"kernel_size": 2, "stride": 2}),
            ("Conv2d", {"out_channels": 16, "kernel_size": 5}),
            ("Sigmoid", {}),
            ("AvgPool2d", {"kernel_size": 2, "stride": 2}),
            ("Flatten", {}),
            ("Linear", {"out_features": 120}),
            ("Sigmoid", {}),
            ("Linear", {"out_features": 84}),
            ("Sigmoid", {}),
            ("Linear", {}),
        ),
        prefix="",  # the notes' LeNet is a bare Sequential
    ),
}

_LAYERS: dict[str, type[nn.Module]] = {
    cls.__name__: cls
    for cls in (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.ReLU, nn.Sigmoid, nn.Flatten, nn.Linear)
}


_WEIGHTED = frozenset({"Conv2d", "Linear"})


class Network(nn.Module):
    """Layers in a row under `model`, as the notes' training classes hold them."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        logits: torch.Tensor = self.model(images)
        return logits


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


@functools.lru_cache(maxsize=256)
def plan(architecture: str, *, channels: int, size: tuple[int, int], classes: int) -> Plan:
    """Every layer with its shapes for images of `size` (height, width).

    Raises `Problem`: architecture_unknown, or network_misfit that names the layer and the shape
    that reaches it.
    """
    name = canonical(architecture)
    if name not in ARCHITECTURES:
        parts = zoo.parts(name, channels=channels, size=size, classes=classes)
        layers = tuple(Layer(index, *part) for index, part in enumerate(parts))
        return Plan(name, (channels, *size), classes, layers, prefix="")
    try:
        return _plan(name, (channels, *size), classes)
    except _Misfit as misfit:
        raise _misfit_problem(name, misfit, channels) from misfit


def build(planned: Plan) -> nn.Module:
    """The network, its weights drawn from torch's global generator layer by layer."""
    if planned.architecture not in ARCHITECTURES:
        return zoo.build(planned.architecture, **_asked(planned))
    layers = [_LAYERS[layer.type](**layer.arguments) for layer in planned.layers]
    return Network(layers) if planned.prefix else nn.Sequential(*layers)


def outline(planned: Plan) -> nn.Module:
    """The network without memory for its weights, to be given some: they are on the meta device."""
    if planned.architecture not in ARCHITECTURES:
        return zoo.outline(planned.architecture, **_asked(planned))
    with torch.device("meta"):
        return build(planned)


def flops(planned: Plan) -> int:
    """Floating point operations of one image's forward pass; a multiply-add counts as two.

    As PyTorch's FlopCounterMode counts: convolutions and linear layers, without their biases.
    """
    if planned.architecture not in ARCHITECTURES:
        return zoo.flops(planned.architecture, **_asked(planned))
    return sum(
        2 * (layer.parameters - layer.output_shape[0]) * math.prod(layer.output_shape[1:])
        for layer in planned.layers
        if layer.type in _WEIGHTED
    )


def _asked(planned: Plan) -> dict[str, Any]:
    """What a plan was made for."""
    channels, *size = planned.input_shape
    return {"channels": channels, "size": tuple(size), "classes": planned.classes}


def _completed(
    kind: str, given: Mapping[str, Any], shape: tuple[int, ...], classes: int
) -> dict[str, Any]:
    """The arguments and those that follow from the shape before the layer."""
    if kind == "Conv2d":
        return {"in_channels": shape[0], **given}
    if kind == "Linear":
        return {"in_features": shape[-1], "out_features": classes, **given}
    return dict(given)


def _output_shape(
    kind: str, arguments: Mapping[str, Any], shape: tuple[int, ...]
) -> tuple[int, ...]:
    """The shape that leaves a layer; sides below 1 when the shape that reaches it is too small."""
    match kind:
        case "Conv2d":
            return (arguments["out_channels"], *_slide(arguments, 1, shape[1:]))
        case "MaxPool2d" | "AvgPool2d":
            return (shape[0], *_slide(arguments, arguments["kernel_size"], shape[1:]))
        case "Flatten":
            return (math.prod(shape),)
        case "Linear":
            return (arguments["out_features"],)
        case _:
            return shape


def _slide(arguments: Mapping[str, Any], stride: int, sides: tuple[int, ...]) -> tuple[int, ...]:
    """How often a kernel fits on each side: the formula of the notes, 1.1."""
    kernel, padding = arguments["kernel_size"], arguments.get("padding", 0)
    stride = arguments.get("stride", stride)
    return tuple((side + 2 * padding - kernel) // stride + 1 for side in sides)


class _Misfit(Exception):
    """A layer cannot take the shape that reaches it."""

    def __init__(self, index: int, module: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__(index)
        self.index, self.module, self.shape = index, module, shape


def _plan(name: str, input_shape: tuple[int, int, int], classes: int) -> Plan:
    known = ARCHITECTURES[name]
    shape: tuple[int, ...] = input_shape
    layers: list[Layer] = []
    for index, (kind, given) in enumerate(known.layers):
        arguments = _completed(kind, given, shape, classes)
        with torch.device("meta"):  # its parameters are counted, not made
            module = _LAYERS[kind](**arguments)
        output = _output_shape(kind, arguments, shape)
        if min(output) < 1:
            raise _Misfit(index, module, shape)
        parameters = sum(p.numel() for p in module.parameters())
        label = f"{known.prefix}{index}"
        layers.append(Layer(index, label, kind, arguments, output, parameters))
        shape = output
    return Plan(name, input_shape, classes, tuple(layers), known.prefix)


def _misfit_problem(name: str, misfit: _Misfit, channels: int) -> Problem:
    reaching = " x ".join(str(side) for side in misfit.shape)
    smallest = _smallest(name, channels)
    return Problem(
        "network_misfit",
        f"Layer {misfit.index} of {name}, {misfit.module}, cannot take the {reaching} "
        "that reaches it (channels x height x width).",
        hint=f"Use an image_size of {smallest} or more: the output side of a convolution or "
        "pooling is floor((in + 2 padding - dilation (kernel_size - 1) - 1) / stride + 1).",
        errors=[{"loc": ["body", "image_size"], "msg": f"smaller than {smallest}"}],
    )


@functools.lru_cache(maxsize=64)
def _smallest(name: str, channels: int) -> int:
    """Side of the smallest square image that the network takes."""
    side = 1
    while True:
        try:
            _plan(name, (channels, side, side), classes=2)
        except _Misfit:
            side += 1
        else:
            return side
