"""What the server sends, as types: plain dictionaries, so that new fields of a newer server stay.

Knows the wire's names and nothing of how they are fetched or shown.
"""

from typing import Any, Generic, NotRequired, TypedDict, TypeVar

ENDED = frozenset({"succeeded", "failed", "cancelled"})
"""States of a job that it never leaves by itself."""

Item = TypeVar("Item")


class Page(TypedDict, Generic[Item]):
    """Part of a list; `next_cursor` asks for the next part, None at the end."""

    items: list[Item]
    next_cursor: str | None


class FieldError(TypedDict):
    """One wrong field of a request: where it is and what is wrong with it."""

    loc: list[str | int]
    msg: str


class Notice(TypedDict):
    """An error or warning of a job or of one image; warnings come without a hint."""

    code: str
    message: str
    hint: NotRequired[str | None]


class DataSetVersion(TypedDict):
    """The data set of a job; `version` is the hash of its content, once known."""

    name: str | None
    version: str | None


class Progress(TypedDict):
    """How far a job is. `epoch` counts finished epochs, `fraction` runs from 0 to 1."""

    phase: str | None
    epoch: int
    epochs: int | None
    step: int
    steps: int | None
    fraction: float | None
    images_per_second: float | None
    eta_seconds: float | None
    bytes: int | None
    bytes_per_second: float | None


class Metrics(TypedDict):
    """Newest figures of a job: losses per image, accuracies as fractions; None: not measured."""

    train_loss: float | None
    train_accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    best_val_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    val_count: int | None


class JobCheckpoint(TypedDict):
    """A checkpoint as its job lists it."""

    id: str
    epoch: int
    val_accuracy: float | None
    best: bool


class Job(TypedDict):
    """One job. Lists leave `checkpoints` out."""

    id: str
    kind: str
    name: str | None
    tags: list[str]
    owner: str
    state: str
    priority: int
    attempt: int
    queue_position: int | None
    waiting_for: str | None
    device: str | None
    worker: dict[str, Any] | None
    dataset: DataSetVersion
    recipe: dict[str, Any] | None
    progress: Progress
    metrics: Metrics
    checkpoints: NotRequired[list[JobCheckpoint]]
    finishing: bool
    best_checkpoint_id: str | None
    warnings: list[Notice]
    stop_reason: str | None
    error: Notice | None
    disk_bytes: int | None
    created_at: str
    started_at: str | None
    finished_at: str | None


class Epoch(TypedDict):
    """One finished epoch. `seconds` and `images_per_second` are of its training part."""

    epoch: int
    attempt: int
    train_loss: float | None
    train_accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    lr: float | None
    images_per_second: float | None
    seconds: float | None


class Step(TypedDict):
    """One measured training step."""

    step: int
    epoch: int
    train_loss: float | None
    lr: float | None


class History(TypedDict):
    """Curves of a job; `next` is the `since` that asks for what comes after."""

    epochs: list[Epoch]
    steps: list[Step]
    next: str | None


class Event(TypedDict):
    """Something that happened to a job; `id` grows."""

    id: int
    type: str
    data: dict[str, Any]


class Layer(TypedDict):
    """One layer of a network; `output_shape` is without the batch."""

    index: int
    name: str
    type: str
    arguments: dict[str, Any]
    output_shape: list[int]
    parameters: int


class Plan(TypedDict):
    """What a recipe would do, without a job."""

    recipe: dict[str, Any]
    layers: list[Layer]
    parameters: int
    flops: int
    steps: int
    estimated_seconds: float | None


class Checkpoint(TypedDict):
    """A checkpoint in a list; the checkpoint by itself is its manifest, a plain dictionary."""

    id: str
    job_id: str | None  # None: it was imported
    epoch: int
    val_accuracy: float | None
    val_loss: float | None
    best: bool
    disk_bytes: int
    created_at: str


class ClassReport(TypedDict):
    """How one class did; None where nothing is to be divided by."""

    index: int
    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


class Averages(TypedDict):
    """Means over the classes."""

    precision: float | None
    recall: float | None
    f1: float | None


class Bin(TypedDict):
    """Images of about one confidence."""

    lower: float
    upper: float
    count: int
    confidence: float | None
    accuracy: float | None


class Calibration(TypedDict):
    """Whether probabilities keep what they promise, before and after the temperature."""

    temperature: float
    fitted_on: str
    fitted_count: int
    ece_before: float
    ece_after: float
    nll_before: float
    nll_after: float
    bins_before: list[Bin]
    bins_after: list[Bin]


class Mistake(TypedDict):
    """An image of a part of the data set that was taken for something else."""

    part: str
    index: int
    label: str
    predicted: str
    probability: float | None


class Report(TypedDict):
    """What a checkpoint is worth; `confusion` counts by true class, then by predicted one."""

    format: int
    checkpoint_id: str
    dataset: DataSetVersion
    judged_on: str
    count: int
    accuracy: float
    top5_accuracy: float | None
    averages: Averages
    classes: list[ClassReport]
    confusion: list[list[int]]
    calibration: Calibration | None
    mistakes: list[Mistake]
    parity: dict[str, Any] | None
    parity_bf16: dict[str, Any] | None


class Guess(TypedDict):
    """One class and how probable it is, from 0 to 1; `index` counts the model's classes."""

    label: str
    index: int
    probability: float


class Prediction(TypedDict, total=False):
    """The answer for one file: `error` alone beside the name, or everything but `error`."""

    filename: str | None
    label: str
    index: int
    probability: float
    unknown: bool
    top: list[Guess]
    warnings: list[str]
    explanation: dict[str, Any] | None
    error: Notice


class Answer(TypedDict):
    """Predictions of one model, one for each file, in order."""

    checkpoint_id: str
    job_id: str | None
    model: str | None
    predictions: list[Prediction]


class Pointing(TypedDict):
    """What an alias was pointed at, when and by whom."""

    checkpoint_id: str
    job_id: str | None
    updated_at: str
    updated_by: str


class Model(TypedDict):
    """An alias. `history` is newest first and begins with what it points at now."""

    alias: str
    checkpoint_id: str
    job_id: str | None  # None: it was imported
    classes: list[str] | None
    input: str | None
    accuracy: float | None
    warm: bool
    updated_at: str
    updated_by: str
    history: list[Pointing]


class DataSet(TypedDict):
    """A data set; `counts` has the images of each part, sizes are in pixels. Lists leave out what
    an import knows: the job that did it, the archive's hash, and the doctor's report.
    """

    name: str
    origin: str
    classes: list[str]
    counts: dict[str, int]
    height: int
    width: int
    channels: int
    available: bool
    version: NotRequired[str | None]
    job_id: NotRequired[str | None]
    archive_sha256: NotRequired[str | None]
    report: NotRequired[dict[str, Any] | None]


class DataSetImage(TypedDict):
    """One image of a data set; its bytes are at `url`, a path on the server."""

    index: int
    label: str
    url: str
