"""The fields of a recipe, as they are submitted (`SubmittedRecipe`) and as they are run (`Recipe`).

Knows ranges and types; defaults and what fields mean together are `recipe.resolve`'s.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models_store import arguments
from models_store.layers import SubmittedArchitecture
from models_store.numbers import Side, Whole
from models_store.pipeline import Pair, Transforms, size_of
from problems import Problem

Size = Side
Epochs = Annotated[int, Field(ge=1, le=100_000), Whole]
Batch = Annotated[int, Field(ge=1, le=65_536), Whole]
# Beyond 2^53 the numbers of JSON are not exact: another seed than was asked for would be taken.
Seed = Annotated[int, Field(ge=0, lt=2**53), Whole]
Name = Annotated[str, Field(min_length=1, max_length=200)]
JobName = Annotated[str, Field(max_length=200)]
Tags = Annotated[list[Name], Field(max_length=20)]
Priority = Annotated[int, Field(ge=-100, le=100), Whole]
Channels = Annotated[Literal[1, 3], Whole]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16"]
# An own `val` part; the test part, as the notes do; or a fraction of the training images.
Validation = Literal["val", "test"] | Annotated[float, Field(gt=0, lt=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class DataLoader(_Part):
    """torch.utils.data.DataLoader's words for how batches are made."""

    shuffle: bool = True
    drop_last: bool = False


class Checkpoints(_Part):
    """How often a checkpoint is saved; the `keep` newest stay, and always the best."""

    every_epochs: Epochs = 1
    keep: Epochs | Literal["all"] = 5


class TensorBoard(_Part):
    """What the files for TensorBoard hold beside the curves."""

    histograms: bool = Field(False, description="How the weights are distributed, each epoch.")


class Normalize(_Part):
    """Mean and standard deviation of each channel, of pixels from 0 to 1."""

    mean: Annotated[list[float], Field(min_length=1, max_length=3)]
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1, max_length=3)]


def _from_name(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and "type" in value and "name" not in value:
        return {"name": value["type"]} | {k: v for k, v in value.items() if k != "type"}
    return value


def _describe(schema: dict[str, Any], known: Mapping[str, type[arguments.Arguments]]) -> None:
    """Lists the arguments of all kinds together: which of them go together, the name decides."""
    schema["additionalProperties"] = False
    schema["properties"]["name"] = {"type": ["string", "null"], "enum": [*known, None]}
    for kind in known.values():
        for name, argument in kind.model_json_schema()["properties"].items():
            said = {key: value for key, value in argument.items() if key != "default"}
            schema["properties"].setdefault(name, said)


def _describe_optimizer(schema: dict[str, Any]) -> None:
    _describe(schema, arguments.OPTIMIZERS)
    schema["examples"] = [{"name": "AdamW", "lr": 0.001, "weight_decay": 0.05}]


def _describe_scheduler(schema: dict[str, Any]) -> None:
    _describe(schema, arguments.SCHEDULERS)
    schema["examples"] = [{"name": "OneCycleLR", "max_lr": 0.01}]


def _or_the_name(known: Iterable[str]) -> Callable[[dict[str, Any]], None]:
    """A bare name is taken too, though the model has fields."""
    return lambda schema: schema["anyOf"].append({"type": "string", "enum": list(known)})


class Named(BaseModel):
    """An optimizer or scheduler: its name and PyTorch's arguments. A bare string is the name.

    `type`, the word that layers and transforms use, is taken for `name` too.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Name | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return _from_name(value)

    def arguments(self) -> dict[str, Any]:
        """Everything given but the name."""
        return dict(self.__pydantic_extra__ or {})


class SubmittedOptimizer(Named):
    """`{"name": "SGD", "lr": 0.1}`; without a name the default optimizer's arguments change."""

    model_config = ConfigDict(json_schema_extra=_describe_optimizer)


class SubmittedScheduler(Named):
    """`{"name": "OneCycleLR", "max_lr": 0.01}`; without a name the default's arguments change."""

    model_config = ConfigDict(json_schema_extra=_describe_scheduler)


class Loss(_Part):
    """The loss, by its PyTorch name; the mean over the images."""

    name: Literal["CrossEntropyLoss"] = "CrossEntropyLoss"

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return _from_name(value)


class SubmittedRecipe(BaseModel):
    """Body of `POST /train`: a data set or a ready-made recipe, and whatever should differ."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [
                {"dataset": "digits"},
                {"recipe": "notes-mnist", "epochs": 2},
                {
                    "dataset": "cifar10",
                    "architecture": "cifar10_net",
                    "epochs": 20,
                    "batch_size": 64,
                    "optimizer": {"name": "SGD", "lr": 0.05, "momentum": 0.9, "nesterov": True},
                    "scheduler": {"name": "OneCycleLR", "max_lr": 0.05},
                },
            ]
        },
    )

    dataset: Name | None = Field(None, description="A data set: GET /datasets lists them.")
    recipe: Name | None = Field(None, description="A ready-made recipe: GET /recipes lists them.")
    architecture: SubmittedArchitecture | None = Field(
        None, description="A name from GET /architectures, or a list of layers."
    )
    pretrained: bool | Literal["auto"] | None = Field(
        None,
        description="Start with torchvision's weights; auto: from scratch where there are none.",
    )
    freeze_backbone: bool | None = Field(None, description="Train nothing but the last layer.")
    head_lr: arguments.Positive | None = Field(
        None, description="Learning rate of the last layer, if it is to have another."
    )
    epochs: Epochs | None = None
    batch_size: Batch | None = None
    optimizer: SubmittedOptimizer | None = Field(
        None,
        description="SGD, Adam or AdamW with PyTorch's arguments. A bare string is the name.",
        json_schema_extra=_or_the_name(arguments.OPTIMIZERS),
    )
    scheduler: SubmittedScheduler | None = Field(
        None,
        description="OneCycleLR with PyTorch's arguments; null for none.",
        json_schema_extra=_or_the_name(arguments.SCHEDULERS),
    )
    lr: arguments.NonNegative | None = Field(None, description="Short for optimizer.lr.")
    loss: Loss | None = None
    image_size: Size | Annotated[list[Size], Field(min_length=2, max_length=2)] | None = Field(
        None, description="Side in pixels, or [height, width]. Images are resized to it whole."
    )
    channels: Channels | None = Field(None, description="1: grey, 3: colour.")
    normalize: Literal["auto"] | Normalize | None = Field(
        None, description="auto measures the training images; null leaves pixels from 0 to 1."
    )
    invert: Literal["auto", "never"] | None = Field(
        None, description="auto: an image on the wrong background is inverted when predicting."
    )
    transforms: Transforms | None = None
    data_loader: DataLoader | None = None
    validation: Validation | None = Field(
        None, description="Fraction of the training images, or val, or test as the notes do."
    )
    device: Device | None = None
    precision: Precision | None = None
    seed: Seed | None = Field(None, description="null: drawn, and recorded in the job.")
    checkpoints: Checkpoints | None = None
    tensorboard: TensorBoard | None = None
    name: JobName | None = Field(None, description="Of the job.")
    tags: Tags = []
    priority: Priority = Field(0, description="Higher runs first.")

    @field_validator("dataset")
    @classmethod
    def _no_path(cls, value: str | None) -> str | None:
        if value is not None and any(c in value for c in "/\\\0"):
            raise Problem(
                "dataset_unknown",
                f"{value!r} is no name of a data set.",
                hint="Give a name from GET /datasets, never a path.",
                errors=[{"loc": ["body", "dataset"], "msg": "a name, not a path"}],
            )
        return value

    @model_validator(mode="after")
    def _lr_once(self) -> "SubmittedRecipe":
        if self.lr is not None and self.optimizer and "lr" in self.optimizer.arguments():
            raise Problem(
                "lr_twice",
                "Both lr and optimizer.lr are given.",
                errors=[{"loc": ["body", "lr"], "msg": "optimizer.lr is given too"}],
            )
        return self


class Recipe(BaseModel):
    """A resolved recipe: nothing left to default. As JSON it is a `SubmittedRecipe` again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    architecture: str | dict[str, Any]
    epochs: int
    batch_size: int
    optimizer: dict[str, Any]
    scheduler: dict[str, Any] | None
    loss: Loss
    image_size: int | list[int]
    channels: Literal[1, 3]
    normalize: Literal["auto"] | Normalize | None
    invert: Literal["auto", "never"]
    transforms: Transforms
    data_loader: DataLoader
    validation: Validation
    device: Device
    precision: Precision
    seed: int
    checkpoints: Checkpoints
    pretrained: bool | Literal["auto"] = False
    freeze_backbone: bool = False
    head_lr: float | None = None
    tensorboard: TensorBoard = TensorBoard(histograms=False)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        if isinstance(self.image_size, int):
            return self.image_size, self.image_size
        return self.image_size[0], self.image_size[1]

    @property
    def input_size(self) -> Pair:
        """(height, width) that the transforms make of `size`: the network's."""
        return size_of(self.size, self.transforms.shaping)
