"""The fields of a recipe, as they are submitted (`SubmittedRecipe`) and as they are run (`Recipe`).

Knows ranges and types; defaults and what fields mean together are `recipe.resolve`'s.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models_store import arguments
from models_store.layers import SubmittedArchitecture
from models_store.losses import Weights
from models_store.named import SubmittedLoss, SubmittedOptimizer, SubmittedScheduler, or_the_name
from models_store.numbers import Side, Whole
from models_store.pipeline import Pair, Transforms, size_of
from models_store.schedulers import Metric
from models_store.signatures import NonNegative, Positive
from problems import Problem

Size = Side
Epochs = Annotated[int, Field(ge=1, le=100_000), Whole]
Batch = Annotated[int, Field(ge=1, le=65_536), Whole]
# Beyond 2^53 the numbers of JSON are not exact: another seed than was asked for would be taken.
Seed = Annotated[int, Field(ge=0, lt=2**53), Whole]
Name = Annotated[str, Field(min_length=1, max_length=200)]
JobName = Annotated[str, Field(max_length=200)]
Tags = Annotated[list[Name], Field(max_length=20)]
ALIAS = r"^[a-z0-9][a-z0-9._@-]{0,63}$"
AliasName = Annotated[str, Field(pattern=ALIAS)]
Priority = Annotated[int, Field(ge=-100, le=100), Whole]
Channels = Annotated[Literal[1, 3], Whole]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
# What `auto` becomes on a device.
Computed = Literal["fp32", "tf32", "bf16", "fp16"]
# An own `val` part; the test part, as the notes do; or a fraction of the training images.
Share = Annotated[float, Field(gt=0, lt=1)]
Validation = Literal["val", "test"] | Share
ClassWeights = Literal["balanced"] | Weights
Accumulation = Annotated[int, Field(ge=1, le=10_000), Whole]
Seconds = Annotated[float, Field(gt=0, le=1e9)]
Workers = Annotated[int, Field(ge=0, le=64), Whole]
Devices = Annotated[int, Field(ge=1, le=64), Whole]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class DataLoader(_Part):
    """torch.utils.data.DataLoader's words for how batches are made."""

    shuffle: bool = True
    drop_last: bool = False
    num_workers: Workers | Literal["auto"] = Field(
        "auto",
        description="Processes that decode the files of a folder. 0: none but the job's own; auto: "
        "as many as there are cores, 8 at most, where that pays.",
    )
    mode: Literal["auto", "resident", "stream"] = Field(
        "auto",
        description="resident: images are decoded once and held; stream: they are read in each "
        "epoch anew, in little memory; auto: held if there is room for them.",
    )


class Checkpoints(_Part):
    """How often a checkpoint is saved; the `keep` newest stay, and always the best."""

    every_epochs: Epochs = 1
    keep: Epochs | Literal["all"] = 5


class TensorBoard(_Part):
    """What the files for TensorBoard hold beside the curves."""

    histograms: bool = Field(False, description="How the weights are distributed, each epoch.")


class Promote(_Part):
    """Points an alias at the best checkpoint when the job ends well; `better`: only where its
    validation accuracy is higher than that of what the alias points at.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    alias: AliasName
    when: Literal["better", "always"] = Field("better", alias="if")


class EarlyStopping(_Part):
    """Ends a run whose `metric` was not better by more than `min_delta` for `patience` epochs."""

    metric: Metric = "val_loss"
    patience: Epochs = 10
    min_delta: Annotated[float, Field(ge=0)] = 0.0


class Normalize(_Part):
    """Mean and standard deviation of each channel, of pixels from 0 to 1."""

    mean: Annotated[list[float], Field(min_length=1, max_length=3)]
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1, max_length=3)]


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
    head_lr: Positive | None = Field(
        None, description="Learning rate of the last layer, if it is to have another."
    )
    init_from: Name | None = Field(
        None,
        description="Id of a checkpoint whose weights the network starts with; for other classes "
        "the last layer begins anew.",
    )
    epochs: Epochs | None = None
    batch_size: Batch | None = None
    optimizer: SubmittedOptimizer | None = Field(
        None,
        description="One of torch.optim with its arguments. A bare string is the name.",
        json_schema_extra=or_the_name(arguments.OPTIMIZERS),
    )
    scheduler: SubmittedScheduler | None = Field(
        None,
        description="PyTorch's arguments, interval and warmup_epochs; null for none.",
        json_schema_extra=or_the_name(arguments.SCHEDULERS),
    )
    lr: NonNegative | None = Field(None, description="Short for optimizer.lr.")
    loss: SubmittedLoss | None = Field(
        None,
        description="With PyTorch's arguments. A bare string is the name.",
        json_schema_extra=or_the_name(arguments.LOSSES),
    )
    class_weights: ClassWeights | None = Field(
        None, description="balanced: rare classes count more; or a weight for each class."
    )
    grad_accumulation: Accumulation | None = Field(
        None, description="Batches for each step of the optimizer."
    )
    clip_grad_norm: Positive | None = Field(
        None, description="The norm that gradients are cut to; null: they are left as they are."
    )
    max_seconds: Seconds | None = Field(
        None, description="Time to train in, over all attempts; null: as long as it takes."
    )
    early_stopping: EarlyStopping | None = None
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
    test: Share | None = Field(
        None, description="Fraction of the training images of a set without a test part."
    )
    device: Device | None = None
    devices: Devices | None = Field(
        None,
        description="How many GPUs share each batch, or without any how many processes on the CPU.",
    )
    precision: Precision | None = None
    compile: bool | None = Field(
        None, description="Whether torch.compile compiles the network before its first step."
    )
    deterministic: bool | None = Field(
        None, description="The same machine gives the same bits again; slower on a GPU."
    )
    seed: Seed | None = Field(None, description="null: drawn, and recorded in the job.")
    checkpoints: Checkpoints | None = None
    promote: Promote | None = Field(
        None, description="An alias to point at the best checkpoint at the end: see PUT /models."
    )
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
    loss: dict[str, Any]
    class_weights: ClassWeights | None = None
    grad_accumulation: int = 1
    clip_grad_norm: float | None = None
    max_seconds: float | None = None
    early_stopping: EarlyStopping | None = None
    image_size: int | list[int]
    channels: Literal[1, 3]
    normalize: Literal["auto"] | Normalize | None
    invert: Literal["auto", "never"]
    transforms: Transforms
    data_loader: DataLoader
    validation: Validation
    test: float | None = None
    device: Device
    devices: int = 1
    precision: Precision
    compile: bool = False
    deterministic: bool = False
    seed: int
    checkpoints: Checkpoints
    pretrained: bool | Literal["auto"] = False
    freeze_backbone: bool = False
    head_lr: float | None = None
    init_from: str | None = None
    promote: Promote | None = None
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
