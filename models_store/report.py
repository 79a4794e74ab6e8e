"""What judging a checkpoint found, as it is kept beside its manifest in `evaluation.json`.

Records and their file; how the figures come about is `evaluation`'s. Knows neither torch nor numpy.
"""

import json
import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from models_store.folders import damaged

EVALUATION = "evaluation.json"
_UNREADABLE = f"{EVALUATION} cannot be read"

Share = float | None


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassReport(_Record):
    """How one class did. A figure whose denominator is zero is null."""

    index: int
    label: str
    precision: Share = Field(description="Of the images called so, the share that are.")
    recall: Share = Field(description="Of the images that are, the share called so.")
    f1: Share
    support: int = Field(description="Images of this class.")


class Averages(_Record):
    """Means over the classes, each counting the same; classes without a figure are left out."""

    precision: Share
    recall: Share
    f1: Share


class Bin(_Record):
    """Images whose confidence lies in (lower, upper]; the means are null where there are none."""

    lower: float
    upper: float
    count: int
    confidence: Share
    accuracy: Share


class Calibration(_Record):
    """Whether the probabilities keep what they promise, before and after the temperature.

    ECE, the expected calibration error, is the mean distance of confidence and accuracy over the
    bins, each weighed by its images (Guo et al. 2017, On Calibration of Modern Neural Networks).
    """

    temperature: float = Field(description="Predictions divide the logits by it.")
    fitted_on: Literal["validation"] = "validation"
    fitted_count: int = Field(description="Images that the temperature was fitted on.")
    ece_before: float
    ece_after: float
    nll_before: float = Field(description="Mean negative log likelihood.")
    nll_after: float
    bins_before: list[Bin]
    bins_after: list[Bin]


class Mistake(_Record):
    """An image that was called something else. It is at /datasets/{name}/images/{part}/{index}."""

    part: str
    index: int = Field(description="Of the image in its part, as it lies, from 0.")
    label: str
    predicted: str
    probability: Share = Field(description="Of the predicted class, calibrated.")


class Parity(_Record):
    """Whether files of validation images, classified as `/predict` does with what was saved, came
    to the labels that the trained network gave them.
    """

    passed: bool = Field(
        description="No more labels differ than are allowed, each of an image whose two most "
        "probable classes are less than 0.01 apart."
    )
    count: int = Field(description="Images that were compared.")
    different: int = Field(description="Images whose labels differ.")
    allowed: int = Field(description="One in a thousand of them, or one.")
    largest_margin: Share = Field(
        description="Between the two most probable classes of an image whose labels differ, the "
        "largest; 1 where its file was refused, null where no label differs."
    )


class Evaluation(_Record):
    """The report of one checkpoint."""

    format: Literal[1] = 1
    checkpoint_id: str
    dataset: dict[str, str | None]
    judged_on: Literal["test", "validation"] = Field(
        description="The test part; without one, the validation images, which also chose the "
        "checkpoint, so that the figures flatter it."
    )
    count: int = Field(description="Images that it was judged on.")
    accuracy: float
    top5_accuracy: float | None = Field(description="null with five classes or fewer.")
    averages: Averages
    classes: list[ClassReport] = Field(description="In the order of the labels.")
    confusion: list[list[int]] = Field(description="Images by true class, then by predicted one.")
    calibration: Calibration | None = Field(
        description="null where the network's outputs are not finite."
    )
    mistakes: list[Mistake] = Field(description="The 20 it was most sure of, surest first.")
    parity: Parity | None = Field(
        None, description="null: the images were not there any more, or it was judged before."
    )
    parity_bf16: Parity | None = Field(
        None,
        description="The same in bfloat16: where it passed, `/predict` computes so. null: the "
        "machine that trained does not do so natively.",
    )


def write(folder: Path, evaluation: Evaluation) -> None:
    """Replaces the report in a checkpoint's folder, whole or not at all. Raises `OSError`."""
    unfinished = folder / f"{EVALUATION}.tmp"
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(evaluation.model_dump_json())
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(folder / EVALUATION)


def read_temperature(folder: Path) -> float | None:
    """The fitted temperature, 1 without one; None when the checkpoint was not judged (yet).

    Reads less closely than `read`, since every prediction may ask. Raises `Problem`
    checkpoint_damaged.
    """
    try:
        calibration = json.loads((folder / EVALUATION).read_bytes())["calibration"]
        return 1.0 if calibration is None else float(calibration["temperature"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(folder, _UNREADABLE) from error


def proves_bf16(folder: Path) -> bool:
    """Whether its labels were found to be the same in bfloat16. False for what cannot be read."""
    try:
        proof = json.loads((folder / EVALUATION).read_bytes())["parity_bf16"]
        return proof is not None and proof["passed"] is True
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read(folder: Path) -> Evaluation | None:
    """The report; None when the checkpoint was not judged. Raises `Problem` checkpoint_damaged."""
    try:
        return Evaluation.model_validate_json((folder / EVALUATION).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise damaged(folder, _UNREADABLE) from error
