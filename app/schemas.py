"""What is sent about jobs and checkpoints, field by field: clients rely on each.

Knows nothing of where the values come from: `views` fills these in.
"""

import math
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from database.tables import State

Item = TypeVar("Item")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


# A metric that is NaN or infinite is null on the wire: JSON has no words for it.
Metric = Annotated[float | None, BeforeValidator(_finite)]


class Read(BaseModel):
    """Base of everything that is sent: made from rows, never changed."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


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


class Transfer(Read):
    """A download, in bytes."""

    done: int
    total: int


class ProgressRead(Read):
    """How far a job is. `epoch` counts finished epochs; `phase` is downloading, decoding,
    training or evaluating.
    """

    phase: str | None = None
    epoch: int = 0
    epochs: int | None = None
    step: int = 0
    steps: int | None = None
    fraction: Metric = None
    images_per_second: Metric = None
    eta_seconds: Metric = None
    bytes: Transfer | int | None = None


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


_JOB_EXAMPLE: dict[str, Any] = {
    "id": "job_01K9ZC3V9QH5N7X1B8TDA4RWEM", "kind": "train", "name": None, "tags": [],
    "owner": "lin", "state": "running", "priority": 0, "attempt": 1, "queue_position": None,
    "waiting_for": None, "device": "cpu",
    "worker": {"id": "atlas-3f2a", "host": "atlas", "pid": 812},
    "dataset": {"name": "mnist", "version": "5c1d0a2b9e7f4c33"},
    "recipe": {"dataset": "mnist", "architecture": "mnist_net", "epochs": 10, "batch_size": 128},
    "progress": {
        "phase": "training", "epoch": 3, "epochs": 10, "step": 1407, "steps": 4220,
        "fraction": 0.333, "images_per_second": 21000.0, "eta_seconds": 18.0, "bytes": None,
    },
    "metrics": {
        "train_loss": 0.21, "train_accuracy": 0.93, "val_loss": 0.2, "val_accuracy": 0.94,
        "best_val_accuracy": 0.94, "test_loss": None, "test_accuracy": None, "val_count": 6000,
    },
    "best_checkpoint_id": "ckpt_01K9ZC4B2M8Y6S0FJQ3KXGT7PD", "warnings": [], "stop_reason": None,
    "error": None, "disk_bytes": 1843200, "created_at": "2026-11-23T08:00:00Z",
    "started_at": "2026-11-23T08:00:01Z", "finished_at": None,
}  # fmt: skip


class JobItem(Read):
    """A job in a list."""

    model_config = ConfigDict(json_schema_extra={"examples": [_JOB_EXAMPLE]})

    id: str
    kind: str
    name: str | None
    tags: list[str]
    owner: str
    state: State
    priority: int
    attempt: int = Field(description="1, and one more for each time its worker was lost.")
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
    best_checkpoint_id: str | None
    warnings: list[NoticeRead]
    stop_reason: str | None
    error: ErrorRead | None
    disk_bytes: int | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobRead(JobItem):
    """A job."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_JOB_EXAMPLE,
                    "checkpoints": [
                        {
                            "id": "ckpt_01K9ZC4B2M8Y6S0FJQ3KXGT7PD",
                            "epoch": 3,
                            "val_accuracy": 0.94,
                            "best": True,
                        }
                    ],
                }
            ]
        }
    )

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

    epochs: list[EpochRead]
    steps: list[StepRead]
    next: str | None


class CheckpointItem(Read):
    """A checkpoint in a list."""

    id: str
    job_id: str
    epoch: int
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

    recipe: dict[str, Any]
    layers: list[LayerRead]
    parameters: int
    flops: int
    steps: int
    estimated_seconds: float | None = Field(
        description="From how fast earlier jobs of the same network were; null without any."
    )
