"""The two lists of transforms of a recipe: how they are written, and what they do to a size.

Torch-free. Which order makes sense is `transform_rules`' to say.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, get_args

from pydantic import Field, model_validator

from models_store.signatures import Arguments
from models_store.transforms import (
    FIXED,
    CenterCrop,
    CutMix,
    EvalTransform,
    MixUp,
    NormalizeTransform,
    RandomCrop,
    RandomErasing,
    RandomResizedCrop,
    Resize,
    ShapingTransform,
    TrainTransform,
    Transform,
)
from problems import FieldError, Problem, did_you_mean, match

Pair = tuple[int, int]  # height and width in pixels


def _by_name(union: Any) -> dict[str, type[Transform]]:
    """torchvision's names and our models, of a union."""
    members = get_args(get_args(union)[0])
    return {get_args(member.model_fields["type"].annotation)[0]: member for member in members}


TRAIN = _by_name(TrainTransform)
EVAL = _by_name(EvalTransform)


class Transforms(Arguments):
    """What is done to the images after the resize to `image_size`, in the order of each list.

    `train`: to the training images, batch by batch. `eval`: to those that are judged or predicted.
    """

    train: list[TrainTransform] = Field([], max_length=16)
    eval: list[EvalTransform] | None = Field(
        None, max_length=16, description="Left out, it follows from train."
    )

    @model_validator(mode="before")
    @classmethod
    def _names(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {
            part: [_named(one, part, at) for at, one in enumerate(listed)]
            if part in cls.model_fields and isinstance(listed, list)
            else listed
            for part, listed in given.items()
        }

    @property
    def shaping(self) -> list[ShapingTransform]:
        """What happens to the pixels of an image that is predicted, before they are normalized."""
        return [one for one in self.eval or () if not isinstance(one, NormalizeTransform)]


def _named(given: Any, part: str, at: int) -> Any:
    """Its `type` as torchvision writes it.

    Raises `Problem` transform_unknown, transforms_misfit for a random one in `eval`, or
    unknown_field for an argument that danlu sets itself.
    """
    if not isinstance(given, dict) or not isinstance(given.get("type"), str):
        return given
    name = match(given["type"], TRAIN)
    if name is None:
        raise Problem(
            "transform_unknown",
            f"There is no transform named {given['type'][:80]!r}.",
            hint=did_you_mean(given["type"], TRAIN if part == "train" else EVAL),
            errors=[place(part, at, "type", message="unknown transform")],
        )
    if part == "eval" and name not in EVAL:
        raise Problem(
            "transforms_misfit",
            f"transforms.eval[{at}]: {name} is random, and prediction is not.",
            hint=f"eval takes {', '.join(EVAL)}; left out, it follows from train.",
            errors=[place(part, at, message="random")],
        )
    for argument in given.keys() & FIXED.keys() - TRAIN[name].model_fields.keys():
        raise Problem(
            "unknown_field",
            f"{name} has no argument {argument!r} here.",
            hint=f"Leave it out: {FIXED[argument]}.",
            errors=[place(part, at, argument, message=f"{name} takes no {argument!r}")],
        )
    return {**given, "type": name}


def place(part: str, *steps: str | int, message: str) -> FieldError:
    """Where in the body a transform, or an argument of it, is wrong."""
    return {"loc": ["body", "transforms", part, *steps], "msg": message}


class Stages(NamedTuple):
    """A train list in two parts: what works on pixels, and what works on the network's input."""

    pixels: list[TrainTransform]
    inputs: list[TrainTransform]


_ON_INPUTS = (RandomErasing, MixUp, CutMix)


def stages(train: Sequence[TrainTransform]) -> Stages:
    """Parted at `Normalize`; without one, before the erasing and mixing that end the list."""
    for at, one in enumerate(train):
        if isinstance(one, NormalizeTransform):
            return Stages(list(train[:at]), list(train[at + 1 :]))
    end = len(train)
    while end and isinstance(train[end - 1], _ON_INPUTS):
        end -= 1
    return Stages(list(train[:end]), list(train[end:]))


def size_of(size: Pair, transforms: Iterable[Transform]) -> Pair:
    """(height, width) that leaves a list when `size` enters it."""
    for one in transforms:
        size = size_after(one, size)
    return size


def size_after(one: Transform, size: Pair) -> Pair:
    """(height, width) that leaves a single transform."""
    match one:
        case Resize():
            return _resized(one, size)
        case CenterCrop() | RandomCrop() | RandomResizedCrop() if one.size is not None:
            return pair(one.size)
    return size


def pair(size: int | list[int]) -> Pair:
    """(height, width): one number stands for both."""
    sides = [size] if isinstance(size, int) else size
    return sides[0], sides[-1]


def _resized(resize: Resize, size: Pair) -> Pair:
    """As torchvision computes it: one number is for the shorter side, the other side follows."""
    height, width = size
    short, long = min(size), max(size)
    wanted = [resize.size] if isinstance(resize.size, int) else resize.size
    if wanted is not None and len(wanted) == 2:
        return wanted[0], wanted[1]
    if wanted is not None:
        short, long = wanted[0], int(wanted[0] * long / short)
    most = resize.max_size
    if most is not None and (wanted is None or long > most):
        short, long = int(most * short / long), most
    return (long, short) if width < height else (short, long)
