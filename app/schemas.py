"""What is sent about jobs and checkpoints, field by field: clients rely on each.

Knows nothing of where the values come from: `views` fills these in.
"""

import math
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app import examples
from database.tables import State

Item = TypeVar("Item")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


# A metric that is NaN or infinite is null on the wire: JSON has no words for it.
Metric = Annotated[float | None, BeforeValidator(_finite)]


class Read(BaseModel):
    """Base of everything that is sent: made from rows, never changed."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


def shown(example: dict[str, Any]) -> ConfigDict:
    """The configuration of a `Read` that the documentation shows with this example."""
    return ConfigDict(json_schema_extra={"examples": [example]})


class Page(Read, Generic[Item]):
    """Part of a list; `next_cursor` asks for the next part, null at the end."""

    items: list[Item]
    next_cursor: str | None


class DataSetOfJob(Read):
    """The data set of a job; `version` is the hash of its content, once it is known."""

    name: str | None
    version: str | None


class WorkerRead(Read):
    """Who works on a job."""

    id: str
    host: str | None
    pid: int | None


class ProgressRead(Read):
    """How far a job is. `epoch` counts finished epochs; `phase` is downloading, decoding, checking
    (what an earlier job has decoded), training or evaluating; of an import listing, unpacking,
    checking or saving; of an export exporting.
    """

    phase: str | None = None
    epoch: int = 0
    epochs: int | None = None
    step: int = 0
    steps: int | None = None
    fraction: Metric = None
    images_per_second: Metric = None
    eta_seconds: Metric = None
    bytes: int | None = Field(None, description="Downloaded so far; `fraction` is of the whole.")
    bytes_per_second: Metric = None


class MetricsRead(Read):
    """The newest figures: losses are means per image, accuracies fractions."""

    train_loss: Metric = None
    train_accuracy: Metric = None
    val_loss: Metric = None
    val_accuracy: Metric = None
    best_val_accuracy: Metric = None
    test_loss: Metric = None
    test_accuracy: Metric = None
    val_count: int | None = None


class CheckpointOfJob(Read):
    """A checkpoint as its job lists it."""

    id: str
    epoch: int
    val_accuracy: Metric
    best: bool


class NoticeRead(Read):
    """Something that a person should know; `code` never changes its meaning."""

    code: str
    message: str


class ErrorRead(NoticeRead):
    """Why a job failed, or a file could not be classified."""

    hint: str | None = None


class JobItem(Read):
    """A job in a list."""

    model_config = shown(examples.JOB_ITEM)

    id: str
    kind: str
    name: str | None
    tags: list[str]
    owner: str
    state: State
    priority: int
    attempt: int = Field(description="1, and one more for each time it was lost or resumed.")
    queue_position: int | None = Field(description="1: the next to be claimed.")
    waiting_for: str | None = Field(description="Why a queued job does not run yet, in words.")
    device: str | None
    worker: WorkerRead | None
    dataset: DataSetOfJob
    recipe: dict[str, Any] | None = Field(
        description="Every default filled in; `POST /train` takes it back as it is."
    )
    progress: ProgressRead
    metrics: MetricsRead
    finishing: bool = Field(description="Asked to end after this epoch.")
    best_checkpoint_id: str | None
    warnings: list[NoticeRead]
    stop_reason: str | None
    error: ErrorRead | None
    disk_bytes: int | None = Field(description="What `DELETE` would free.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobRead(JobItem):
    """A job."""

    model_config = shown(examples.JOB)

    checkpoints: list[CheckpointOfJob]


class EpochRead(Read):
    """One epoch. `seconds` and `images_per_second` are of its training part."""

    epoch: int
    attempt: int
    train_loss: Metric
    train_accuracy: Metric
    val_loss: Metric
    val_accuracy: Metric
    test_loss: Metric
    test_accuracy: Metric
    lr: Metric
    images_per_second: Metric
    seconds: Metric


class StepRead(Read):
    """One point of the loss as it went; `step` counts batches from the start."""

    step: int
    epoch: int
    train_loss: Metric
    lr: Metric


class HistoryRead(Read):
    """The curves of a job; `next` is the `since` that asks for what comes after."""

    model_config = shown(examples.HISTORY)

    epochs: list[EpochRead]
    steps: list[StepRead]
    next: str | None


class CheckpointItem(Read):
    """A checkpoint in a list."""

    model_config = shown(examples.CHECKPOINT_ITEM)

    id: str
    job_id: str | None = Field(description="null: it was imported.")
    epoch: int = Field(description="0 of one that was imported.")
    val_accuracy: Metric
    val_loss: Metric
    best: bool
    disk_bytes: int
    created_at: datetime


class LayerRead(Read):
    """One layer of a network; `output_shape` is what leaves it, without the batch."""

    index: int
    name: str
    type: str
    arguments: dict[str, Any]
    output_shape: list[int]
    parameters: int


class PlanRead(Read):
    """What a recipe would do. `flops` are of one image's forward pass."""

    model_config = shown(examples.PLAN)

    recipe: dict[str, Any]
    layers: list[LayerRead]
    parameters: int
    flops: int
    steps: int
    estimated_seconds: float | None = Field(
        description="From how fast earlier jobs of the same network were; null without any."
    )
