"""The arguments of torchvision's transforms, with torchvision.transforms.v2's names and defaults.

Torch-free, so that a request can be checked before torch is loaded; a test holds every model
against its torchvision class. What a list of them does to an image is `pipeline`'s to say.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from models_store.numbers import Share, Side, Whole
from models_store.signatures import Arguments

# One number for a square or the shorter side, as torchvision has it, or [height, width].
Size = Side | Annotated[list[Side], Field(min_length=1, max_length=2)]
Padding = Annotated[int, Field(ge=0, le=512), Whole]
Paddings = Padding | Annotated[list[Padding], Field(min_length=1, max_length=4)]
Brightness = Annotated[float, Field(ge=0, le=255)]
Fill = Brightness | Annotated[list[Brightness], Field(min_length=1, max_length=3)]
Ratio = Annotated[list[Annotated[float, Field(ge=1e-3, le=1e3)]], Field(min_length=2, max_length=2)]
Shares = Annotated[list[Share], Field(min_length=2, max_length=2)]
Factor = Annotated[float, Field(ge=0, le=100)]
Factors = Factor | Annotated[list[Factor], Field(min_length=2, max_length=2)]
Shift = Annotated[float, Field(ge=-0.5, le=0.5)]
Shifts = (
    Annotated[float, Field(ge=0, le=0.5)]
    | Annotated[list[Shift], Field(min_length=2, max_length=2)]
)
Degree = Annotated[float, Field(ge=-36_000, le=36_000)]
Degrees = (
    Annotated[float, Field(ge=0, le=36_000)]
    | Annotated[list[Degree], Field(min_length=2, max_length=2)]
)
Pixel = Annotated[float, Field(ge=-10_000, le=10_000)]
Value = Annotated[float, Field(ge=-1000, le=1000)]
Mean = Annotated[list[float], Field(min_length=1, max_length=3)]
Deviation = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1, max_length=3)]
Alpha = Annotated[float, Field(ge=0.01, le=100)]
Bins = Annotated[int, Field(ge=2, le=1000), Whole]
Resampling = Literal["nearest", "nearest-exact", "bilinear", "bicubic"]
Sampling = Literal["nearest", "bilinear"]
Noise = Literal["random"]


class Transform(Arguments):
    """What all transforms have in common."""

    type: str  # the name of torchvision's class


def _rises(values: object) -> bool:
    return not isinstance(values, list) or len(values) < 2 or values[0] <= values[1]


class Resize(Transform):
    """torchvision.transforms.v2.Resize: a single `size` is that of the shorter side."""

    type: Literal["Resize"]
    size: Size | None = None
    interpolation: Resampling = "bilinear"
    max_size: Side | None = None
    antialias: bool | None = True

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        exact = isinstance(self.size, list) and len(self.size) == 2
        if self.size is None and self.max_size is None:
            raise ValueError("size is needed, or max_size for the longer side")
        if self.max_size is not None and exact:
            raise ValueError("max_size goes with one number for size, not with two")
        size = self.size[0] if isinstance(self.size, list) else self.size
        if self.max_size is not None and size is not None and self.max_size <= size:
            raise ValueError("max_size must be larger than size")
        return self


class CenterCrop(Transform):
    """torchvision.transforms.v2.CenterCrop: an image that is smaller gets a black border."""

    type: Literal["CenterCrop"]
    size: Size


class RandomCrop(Transform):
    """torchvision.transforms.v2.RandomCrop; without `size`, to the size of the image.

    Then `padding` is 4 unless it is said: without padding nothing would be cropped.
    """

    type: Literal["RandomCrop"]
    size: Size | None = None
    padding: Paddings | None = None
    pad_if_needed: bool = False
    fill: Fill = 0.0
    padding_mode: Literal["constant", "edge", "reflect", "symmetric"] = "constant"

    @model_validator(mode="before")
    @classmethod
    def _habit(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("size") is given.get("padding") is None:
            return {**given, "padding": 4}
        return given

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if isinstance(self.padding, list) and len(self.padding) == 3:
            raise ValueError("padding is one number, [left and right, top and bottom], or all four")
        if self.padding_mode != "constant" and self.fill != 0:
            raise ValueError(f"padding_mode {self.padding_mode} takes no fill")
        return self

    def paddings(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Pixels added left, top, right and bottom of an image of that size."""
        given = [self.padding or 0] if isinstance(self.padding, int | None) else self.padding
        left, top = given[0], given[min(1, len(given) - 1)]
        right, bottom = (given[2], given[3]) if len(given) == 4 else (left, top)
        if self.pad_if_needed and self.size is not None:
            wanted = [self.size] if isinstance(self.size, int) else self.size
            # Both sides get all that is missing, as in torchvision.
            more_high = max(0, wanted[0] - height - top - bottom)
            more_wide = max(0, wanted[-1] - width - left - right)
            left, top, right, bottom = (
                *(left + more_wide, top + more_high),
                *(right + more_wide, bottom + more_high),
            )
        return left, top, right, bottom


class RandomResizedCrop(Transform):
    """torchvision.transforms.v2.RandomResizedCrop; without `size`, to the size of the image."""

    type: Literal["RandomResizedCrop"]
    size: Size | None = None
    scale: Shares = Field([0.08, 1.0])
    ratio: Ratio = Field([3 / 4, 4 / 3])
    interpolation: Resampling = "bilinear"
    antialias: bool | None = True

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not (0 < self.scale[0] <= self.scale[1] and _rises(self.ratio)):
            raise ValueError("scale must rise within 0 to 1, ratio must rise above 0")
        return self


class RandomHorizontalFlip(Transform):
    """torchvision.transforms.v2.RandomHorizontalFlip."""

    type: Literal["RandomHorizontalFlip"]
    p: Share = 0.5


class RandomVerticalFlip(Transform):
    """torchvision.transforms.v2.RandomVerticalFlip."""

    type: Literal["RandomVerticalFlip"]
    p: Share = 0.5


class RandomRotation(Transform):
    """torchvision.transforms.v2.RandomRotation: one number means from minus it to plus it."""

    type: Literal["RandomRotation"]
    degrees: Degrees
    interpolation: Sampling = "nearest"
    center: Annotated[list[Pixel], Field(min_length=2, max_length=2)] | None = None
    fill: Fill = 0.0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not _rises(self.degrees):
            raise ValueError("degrees must rise")
        return self


class ColorJitter(Transform):
    """torchvision.transforms.v2.ColorJitter: one number means that far to both sides."""

    type: Literal["ColorJitter"]
    brightness: Factors | None = None
    contrast: Factors | None = None
    saturation: Factors | None = None
    hue: Shifts | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name in ("brightness", "contrast", "saturation", "hue"):
            if not _rises(getattr(self, name)):
                raise ValueError(f"{name} must rise")
        return self


class Grayscale(Transform):
    """torchvision.transforms.v2.Grayscale; the channels that come out are the recipe's."""

    type: Literal["Grayscale"]
    num_output_channels: Annotated[Literal[1, 3], Whole] = 1


class RandomErasing(Transform):
    """torchvision.transforms.v2.RandomErasing: `value` is a number, one a channel, or "random"."""

    type: Literal["RandomErasing"]
    p: Share = 0.5
    scale: Shares = Field([0.02, 0.33])
    ratio: Ratio = Field([0.3, 3.3])
    value: Value | Annotated[list[Value], Field(min_length=1, max_length=3)] | Noise = 0.0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not (_rises(self.scale) and _rises(self.ratio)):
            raise ValueError("scale and ratio must rise")
        return self


class NormalizeTransform(Transform):
    """torchvision.transforms.v2.Normalize: what the recipe's `normalize` says too."""

    type: Literal["Normalize"]
    mean: Mean
    std: Deviation


class AutoAugment(Transform):
    """torchvision.transforms.v2.AutoAugment."""

    type: Literal["AutoAugment"]
    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"
    interpolation: Sampling = "nearest"
    fill: Fill | None = None


class RandAugment(Transform):
    """torchvision.transforms.v2.RandAugment."""

    type: Literal["RandAugment"]
    num_ops: Annotated[int, Field(ge=0, le=16), Whole] = 2
    magnitude: Annotated[int, Field(ge=0, le=999), Whole] = 9
    num_magnitude_bins: Bins = 31
    interpolation: Sampling = "nearest"
    fill: Fill | None = None

    @model_validator(mode="after")
    def _is_a_bin(self) -> Self:
        if self.magnitude >= self.num_magnitude_bins:
            raise ValueError("magnitude must be below num_magnitude_bins")
        return self


class TrivialAugmentWide(Transform):
    """torchvision.transforms.v2.TrivialAugmentWide."""

    type: Literal["TrivialAugmentWide"]
    num_magnitude_bins: Bins = 31
    interpolation: Sampling = "nearest"
    fill: Fill | None = None


class MixUp(Transform):
    """torchvision.transforms.v2.MixUp, of the whole batch."""

    type: Literal["MixUp"]
    alpha: Alpha = 1.0


class CutMix(Transform):
    """torchvision.transforms.v2.CutMix, of the whole batch."""

    type: Literal["CutMix"]
    alpha: Alpha = 1.0


Shaping = Resize | CenterCrop | Grayscale
Mixing = MixUp | CutMix
TrainTransform = Annotated[
    Shaping
    | RandomCrop
    | RandomResizedCrop
    | RandomHorizontalFlip
    | RandomVerticalFlip
    | RandomRotation
    | ColorJitter
    | RandomErasing
    | NormalizeTransform
    | AutoAugment
    | RandAugment
    | TrivialAugmentWide
    | Mixing,
    Field(discriminator="type"),
]
# What prediction can repeat: the same image always gives the same input.
EvalTransform = Annotated[Shaping | NormalizeTransform, Field(discriminator="type")]
ShapingTransform = Annotated[Shaping, Field(discriminator="type")]

# Arguments that torchvision has and danlu sets itself: said by name when someone gives them.
FIXED: dict[str, str] = {
    "inplace": "danlu decides what may be overwritten",
    "expand": "all images of a batch have one size",
    "num_classes": "the classes of the data set are counted",
    "labels_getter": "danlu hands over the labels itself",
}
