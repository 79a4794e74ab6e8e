"""What layers make of a shape: sizes, parameters and operations of each, by formula.

Torch-free: nothing is tried (decision 9), so the first answer is as quick as all others. Tests
hold every formula against PyTorch. Knows no names of networks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from models_store.layers import (
    AdaptiveAvgPool2d,
    AnyLayer,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    Residual,
    pair,
)

Shape = tuple[int, ...]

MOST_NUMBERS = 10**9
"""That may leave a layer for one image: 4 GB of float32."""

FORMULA = "floor((in + 2 padding - dilation (kernel_size - 1) - 1) / stride + 1)"
"""Side of what leaves a convolution or pooling: the notes, 1.1."""

_ON_IMAGES = Conv2d | MaxPool2d | AvgPool2d | AdaptiveAvgPool2d | BatchNorm2d
# What they hand on is needed again to compute gradients, so the next layer may not overwrite it.
_KEEP_THEIR_OUTPUT = frozenset({"ReLU", "Sigmoid", "Tanh"})
# What they hand on may be the very numbers that reached them.
_PASS_ON = frozenset({"Dropout", "Flatten"})


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a plan: its arguments with those that follow from the shape before it, and the
    shape (C, H, W) or (F,) that leaves it. A Residual's own layers follow it.

    `name` is what its keys in the state_dict begin with; `flops` are of one image, a multiply-add
    counting as two, without biases, as PyTorch's FlopCounterMode counts.
    """

    index: int
    name: str
    type: str
    arguments: Mapping[str, Any]
    output_shape: Shape
    parameters: int
    flops: int = 0


class Misfit(Exception):
    """A layer cannot take the shape that reaches it; `path` is as in `3.layers.1`, `field` the
    argument that is to blame.
    """

    def __init__(self, path: str, layer: AnyLayer, shape: Shape, why: "_Unfit") -> None:
        super().__init__(path, why.reason)
        self.path, self.layer, self.shape = path, layer, shape
        self.reason, self.field = why.reason, why.field


class _Unfit(Exception):
    """Why a layer cannot take a shape."""

    def __init__(self, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.field = reason, field


def written(shape: Shape) -> str:
    """`32 x 8 x 8`."""
    return " x ".join(map(str, shape))


def trace(
    layers: Sequence[AnyLayer], shape: Shape, *, classes: int, prefix: str
) -> tuple[tuple[Layer, ...], Shape]:
    """Every layer for images of `shape` (C, H, W), and the shape that leaves the last one.

    `prefix` begins every name. Raises `Misfit`.
    """
    tracing = _Tracing(prefix, classes, _last_linear(layers))
    output = tracing.through(layers, shape, "", free=True)
    return tuple(tracing.rows), output


def _last_linear(layers: Sequence[AnyLayer]) -> Linear | None:
    """The one whose `out_features` may be left to the number of classes."""
    for layer in reversed(layers):
        if isinstance(layer, Linear):
            return layer
        if isinstance(layer, Residual):
            inner = _last_linear(layer.shortcut) or _last_linear(layer.layers)
            if inner is not None:
                return inner
    return None


class _Tracing:
    """One walk through a network; `rows` are the layers so far."""

    def __init__(self, prefix: str, classes: int, last: Linear | None) -> None:
        self._prefix, self._classes, self._last = prefix, classes, last
        self.rows: list[Layer] = []

    def through(self, layers: Sequence[AnyLayer], shape: Shape, path: str, *, free: bool) -> Shape:
        """The shape that leaves a list. `free`: nobody else needs the numbers that reach it."""
        for number, layer in enumerate(layers):
            here = f"{path}{number}"
            try:
                if getattr(layer, "inplace", False) and not free:
                    raise _Unfit("inplace would overwrite numbers that are needed again", "inplace")
                shape = self._one(layer, shape, here)
            except _Unfit as why:
                raise Misfit(here, layer, shape, why) from None
            if layer.type not in _PASS_ON:
                free = layer.type not in _KEEP_THEIR_OUTPUT
        return shape

    def _one(self, layer: AnyLayer, shape: Shape, path: str) -> Shape:
        if isinstance(layer, Residual):
            return self._residual(layer, shape, path)
        if isinstance(layer, _ON_IMAGES) and len(shape) != 3:
            raise _Unfit("it takes channels x height x width")
        arguments = {**self._inferred(layer, shape), **layer.given()}
        output = _output(layer, arguments, shape)
        if math.prod(output) > MOST_NUMBERS:
            raise _Unfit(f"{written(output)} would leave it: over 10^9 numbers for one image")
        self._add(path, layer, arguments, output, *_cost(layer, arguments, output))
        return output

    def _residual(self, layer: Residual, shape: Shape, path: str) -> Shape:
        at = len(self.rows)
        self._add(path, layer, {}, shape, 0, 0)
        main = self.through(layer.layers, shape, f"{path}.layers.", free=False)
        beside = self.through(layer.shortcut, shape, f"{path}.shortcut.", free=False)
        if main != beside:
            raise _Unfit(
                f"its layers make {written(main)} of it and its shortcut {written(beside)}, "
                "which cannot be added"
            )
        self.rows[at] = replace(self.rows[at], output_shape=main)
        return main

    def _inferred(self, layer: AnyLayer, shape: Shape) -> dict[str, int]:
        """The arguments that follow from the shape; one that is given must be right."""
        match layer:
            case Conv2d():
                return _same("in_channels", layer.in_channels, shape[0])
            case BatchNorm2d():
                return _same("num_features", layer.num_features, shape[0])
            case Linear():
                inferred = _same("in_features", layer.in_features, shape[-1])
                if layer is self._last:
                    return {**inferred, "out_features": self._classes}
                if layer.out_features is None:
                    raise _Unfit(
                        "out_features is missing: only the last Linear's is the number of classes",
                        "out_features",
                    )
                return inferred
            case _:
                return {}

    def _add(
        self, path: str, layer: AnyLayer, arguments: Mapping[str, Any], shape: Shape, *cost: int
    ) -> None:
        name = f"{self._prefix}{path}"
        self.rows.append(Layer(len(self.rows), name, layer.type, arguments, shape, *cost))


def _same(name: str, given: int | None, reaching: int) -> dict[str, int]:
    if given not in (None, reaching):
        raise _Unfit(f"{name} is {given}, but {reaching} reach it", name)
    return {name: reaching}


def _output(layer: AnyLayer, arguments: Mapping[str, Any], shape: Shape) -> Shape:
    """The shape that leaves a layer."""
    match layer:
        case Conv2d():
            return (layer.out_channels, *_convolved(layer, shape))
        case MaxPool2d() | AvgPool2d():
            return (shape[0], *_slid(layer, shape[1:], pair(layer.padding)))
        case AdaptiveAvgPool2d():
            sides = layer.output_size
            wanted = sides if isinstance(sides, tuple) else (sides, sides)
            return (shape[0], wanted[0] or shape[1], wanted[1] or shape[2])
        case Flatten():
            return _flattened(layer, shape)
        case Linear():
            return (*shape[:-1], arguments["out_features"])
        case _:
            return shape


def _convolved(layer: Conv2d, shape: Shape) -> Shape:
    if shape[0] % layer.groups:
        raise _Unfit(f"{layer.groups} groups do not divide {shape[0]} channels", "groups")
    if layer.padding == "same":
        kernel, dilation = pair(layer.kernel_size), pair(layer.dilation)
        totals = [reach * (side - 1) for side, reach in zip(kernel, dilation, strict=True)]
        _mirrored(layer, shape[1:], [total - total // 2 for total in totals])
        return shape[1:]
    padding = (0, 0) if layer.padding == "valid" else pair(layer.padding)
    _mirrored(layer, shape[1:], padding)
    return _slid(layer, shape[1:], padding)


def _mirrored(layer: Conv2d, sides: Shape, padding: Sequence[int]) -> None:
    """Padding that is taken from the image cannot be more than there is of it."""
    most = {"reflect": -1, "circular": 0}.get(layer.padding_mode)
    if most is None:
        return
    for side, gap in zip(sides, padding, strict=True):
        if gap > side + most:
            raise _Unfit(
                f"padding_mode {layer.padding_mode!r} takes at most {side + most} of a side of "
                f"{side}, not {gap}",
                "padding",
            )


def _slid(
    layer: Conv2d | MaxPool2d | AvgPool2d, sides: Shape, padding: tuple[int, int]
) -> tuple[int, ...]:
    """How often a window fits on each side: the formula of the notes, 1.1."""
    kernel = pair(layer.kernel_size)
    stride = kernel if layer.stride is None else pair(layer.stride)
    dilation = (1, 1) if isinstance(layer, AvgPool2d) else pair(layer.dilation)
    ceil = not isinstance(layer, Conv2d) and layer.ceil_mode
    output = []
    for side, *numbers in zip(sides, kernel, stride, padding, dilation, strict=True):
        fits = _fits(side, *numbers, ceil=ceil)
        if fits < 1:
            k, s, p, d = numbers
            formula = f"({side} + 2*{p} - {d}*({k} - 1) - 1) / {s} + 1"
            raise _Unfit(f"{'ceil' if ceil else 'floor'}({formula}) = {fits}")
        output.append(fits)
    return tuple(output)


def _fits(side: int, kernel: int, stride: int, padding: int, dilation: int, *, ceil: bool) -> int:
    room = side + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil:
        return room // stride + 1
    fits = -(-room // stride) + 1
    # A window that would begin past the image is left out.
    return fits - 1 if (fits - 1) * stride >= side + padding else fits


def _flattened(layer: Flatten, shape: Shape) -> Shape:
    dimensions = len(shape) + 1  # with the batch
    first, last = (dim + dimensions if dim < 0 else dim for dim in (layer.start_dim, layer.end_dim))
    if not 1 <= first <= last < dimensions:
        raise _Unfit(
            f"start_dim {layer.start_dim} to end_dim {layer.end_dim} must lie within 1 to "
            f"{dimensions - 1}: 0 is the batch, which stays",
            "start_dim",
        )
    return (*shape[: first - 1], math.prod(shape[first - 1 : last]), *shape[last:])


def _cost(layer: AnyLayer, arguments: Mapping[str, Any], output: Shape) -> tuple[int, int]:
    """Parameters, and operations for one image."""
    match layer:
        case Conv2d():
            height, width = pair(layer.kernel_size)
            fan_in = arguments["in_channels"] // layer.groups * height * width
            weights = layer.out_channels * fan_in
            return weights + layer.bias * layer.out_channels, 2 * fan_in * math.prod(output)
        case Linear():
            fan_in, fan_out = arguments["in_features"], arguments["out_features"]
            return fan_in * fan_out + layer.bias * fan_out, 2 * fan_in * math.prod(output)
        case BatchNorm2d():
            return layer.affine * (1 + layer.bias) * output[0], 0
        case _:
            return 0, 0
