"""The layers that a network of one's own is made of, with PyTorch's argument names and defaults.

Torch-free, so that a request can be checked before torch is loaded; a test holds every model
against the signature of its PyTorch class. What layers make of a shape is `shapes`'s to say.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from models_store.numbers import Share, Whole
from models_store.signatures import Arguments, Positive

MOST_LAYERS = 500
MOST_DEPTH = 20
"""Of a Residual in a Residual in a Residual …"""

# Each number is bounded, so that sizes can be multiplied; 4096 px are twice the largest image.
Count = Annotated[int, Field(ge=1, le=1_000_000), Whole]
Side = Annotated[int, Field(ge=1, le=4096), Whole]
Gap = Annotated[int, Field(ge=0, le=4096), Whole]
# A pair is (height, width). JSON has lists only; tuples can be compared and hashed.
Sides = Side | Annotated[tuple[Side, Side], Field(strict=False)]
Gaps = Gap | Annotated[tuple[Gap, Gap], Field(strict=False)]
OutputSides = Side | Annotated[tuple[Side | None, Side | None], Field(strict=False)]
Dimension = Annotated[int, Field(ge=-4, le=3), Whole]

# Arguments that PyTorch has and danlu sets itself: said by name when someone gives them.
FIXED: dict[str, str] = {
    "device": "the worker chooses where the network computes",
    "dtype": "the recipe's precision says how it computes",
    "return_indices": "the layer after it takes one tensor",
}


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of what may be given as one number."""
    return value if isinstance(value, tuple) else (value, value)


def _fixed(name: str) -> PydanticCustomError:
    return PydanticCustomError("argument_fixed", "danlu sets it: {why}", {"why": FIXED[name]})


class _Layer(Arguments):
    """What layers have in common: arguments that danlu fixes are refused with the reason."""

    @model_validator(mode="before")
    @classmethod
    def _not_fixed(cls, value: Any) -> Any:
        given = FIXED.keys() & value.keys() if isinstance(value, Mapping) else ()
        if given:
            raise ValidationError.from_exception_data(
                cls.__name__,
                [
                    {"type": _fixed(name), "loc": (name,), "input": value[name]}
                    for name in sorted(given)
                ],
            )
        return value

    def given(self) -> dict[str, Any]:
        """The arguments that differ from PyTorch's defaults."""
        return self.model_dump(exclude_defaults=True, exclude={"type", "layers", "shortcut"})


class Conv2d(_Layer):
    """torch.nn.Conv2d; `in_channels` left out is what the layer before gives."""

    type: Literal["Conv2d"]
    in_channels: Count | None = None
    out_channels: Count
    kernel_size: Sides
    stride: Sides = 1
    padding: Gaps | Literal["same", "valid"] = 0
    dilation: Sides = 1
    groups: Count = 1
    bias: bool = True
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros"

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.padding == "same" and pair(self.stride) != (1, 1):
            raise ValueError("padding 'same' needs a stride of 1")
        if self.out_channels % self.groups:
            raise ValueError(f"{self.groups} groups do not divide {self.out_channels} out_channels")
        return self


class _Pool(_Layer):
    """What moves a window; `stride` left out is `kernel_size`."""

    kernel_size: Sides
    stride: Sides | None = None
    padding: Gaps = 0
    ceil_mode: bool = False

    @model_validator(mode="after")
    def _window_meets_image(self) -> Self:
        sides = zip(pair(self.padding), pair(self.kernel_size), strict=True)
        if any(gap > kernel // 2 for gap, kernel in sides):
            raise ValueError("padding may be at most half of kernel_size")
        return self


class MaxPool2d(_Pool):
    """torch.nn.MaxPool2d."""

    type: Literal["MaxPool2d"]
    dilation: Sides = 1


class AvgPool2d(_Pool):
    """torch.nn.AvgPool2d."""

    type: Literal["AvgPool2d"]
    count_include_pad: bool = True
    divisor_override: Count | None = None


class AdaptiveAvgPool2d(_Layer):
    """torch.nn.AdaptiveAvgPool2d; a side of null stays as it is."""

    type: Literal["AdaptiveAvgPool2d"]
    output_size: OutputSides


class BatchNorm2d(_Layer):
    """torch.nn.BatchNorm2d; `num_features` left out is the number of channels."""

    type: Literal["BatchNorm2d"]
    num_features: Count | None = None
    eps: Positive = 1e-5
    momentum: Share | None = 0.1
    affine: bool = True
    track_running_stats: bool = True
    bias: bool = True

    @model_validator(mode="after")
    def _predicts_each_image_alone(self) -> Self:
        if not self.track_running_stats:
            raise ValueError(
                "without track_running_stats an image's prediction would depend on those beside it"
            )
        return self


class ReLU(_Layer):
    """torch.nn.ReLU."""

    type: Literal["ReLU"]
    inplace: bool = False


class Sigmoid(_Layer):
    """torch.nn.Sigmoid."""

    type: Literal["Sigmoid"]


class Tanh(_Layer):
    """torch.nn.Tanh."""

    type: Literal["Tanh"]


class GELU(_Layer):
    """torch.nn.GELU."""

    type: Literal["GELU"]
    approximate: Literal["none", "tanh"] = "none"


class Dropout(_Layer):
    """torch.nn.Dropout."""

    type: Literal["Dropout"]
    p: Share = 0.5
    inplace: bool = False


class Flatten(_Layer):
    """torch.nn.Flatten; dimension 0 is the batch, which stays."""

    type: Literal["Flatten"]
    start_dim: Dimension = 1
    end_dim: Dimension = -1


class Linear(_Layer):
    """torch.nn.Linear; the last one's `out_features` left out is the number of classes."""

    type: Literal["Linear"]
    in_features: Count | None = None
    out_features: Count | None = None
    bias: bool = True


class Residual(_Layer):
    """The sum of what `layers` and `shortcut` make of the same input; an empty list passes it on.

    PyTorch has no such class: ResNet's blocks are of this form.
    """

    type: Literal["Residual"]
    layers: "Layers"
    shortcut: "Layers" = ()


AnyLayer = Annotated[
    Conv2d
    | MaxPool2d
    | AvgPool2d
    | AdaptiveAvgPool2d
    | BatchNorm2d
    | ReLU
    | Sigmoid
    | Tanh
    | GELU
    | Dropout
    | Flatten
    | Linear
    | Residual,
    Field(discriminator="type"),
]
Layers = Annotated[tuple[AnyLayer, ...], Field(max_length=MOST_LAYERS, strict=False)]


class LayerList(Arguments):
    """A network of one's own: layers in a row."""

    layers: Annotated[Layers, Field(json_schema_extra={"minItems": 1})]

    @model_validator(mode="before")
    @classmethod
    def _within_limits(cls, value: Any) -> Any:
        """Looks before the layers are read, which takes a stack as deep as they are nested."""
        depths = list(_depths(value))
        if not depths and isinstance(value, dict) and value.get("layers") == []:
            raise ValueError("a network needs a layer")
        if len(depths) > MOST_LAYERS:
            raise ValueError(f"a network may have {MOST_LAYERS} layers at most, with those inside")
        if max(depths, default=0) > MOST_DEPTH:
            raise ValueError(f"Residuals may be nested {MOST_DEPTH} deep at most")
        return value

    def canonical(self) -> dict[str, Any]:
        """The shortest JSON that means the same: what is PyTorch's default anyway is left out."""
        return self.model_dump(mode="json", exclude_defaults=True)


def label(architecture: str | Mapping[str, Any]) -> str:
    """One word for file names and logs: the name, or `own` for a list of layers."""
    return architecture if isinstance(architecture, str) else "own"


def _depths(value: Any) -> Iterator[int]:
    """How many Residuals each layer of unchecked JSON is in."""
    waiting = [(value, 0)]
    while waiting:
        holder, depth = waiting.pop()
        lists = [holder.get("layers"), holder.get("shortcut")] if isinstance(holder, dict) else []
        for inner in lists:
            for layer in inner if isinstance(inner, list | tuple) else ():
                yield depth
                waiting.append((layer, depth + 1))


SubmittedArchitecture = Annotated[
    Annotated[str, Field(min_length=1, max_length=200), Tag("name")]
    | Annotated[LayerList, Tag("LayerList")],
    Discriminator(lambda value: "LayerList" if isinstance(value, dict | LayerList) else "name"),
]
"""A network by its name, or as a list of layers."""
