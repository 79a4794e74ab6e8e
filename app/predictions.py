"""What is answered about images, and how it comes from probabilities.

Knows neither requests nor networks.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from app import examples
from app.explanations import ExplanationRead
from app.schemas import ErrorRead, Metric, Read, shown
from problems import Problem

if TYPE_CHECKING:
    from models_store.classifier import Classified

_DIGITS = 6  # a probability further behind the point differs from machine to machine


class Guess(Read):
    """One class and how probable it is, from 0 to 1."""

    label: str
    index: int
    probability: Metric


class PredictionRead(Read):
    """What the network sees in one image. `top` starts with `label`."""

    filename: str | None
    label: str
    index: int
    probability: Metric
    unknown: bool = Field(description="Less probable than the threshold.")
    top: list[Guess]
    warnings: list[str] = Field(
        description="inverted, upscaled, extreme_aspect_ratio, first_frame_only"
    )
    explanation: ExplanationRead | None = Field(description="What `explain` asked for.")


class RefusedRead(Read):
    """Why one of several files could not be classified."""

    filename: str | None
    error: ErrorRead


class AnswerRead(Read):
    """One element per file, in order."""

    model_config = shown(examples.ANSWER)

    checkpoint_id: str
    job_id: str | None = Field(description="null: the checkpoint was imported.")
    model: str | None = Field(description="The model that was asked for.")
    predictions: list[PredictionRead | RefusedRead]


def answer(
    filename: str | None,
    found: "Classified | Problem",
    *,
    classes: Sequence[str],
    top_k: int,
    threshold: float,
    explanation: ExplanationRead | None = None,
) -> PredictionRead | RefusedRead:
    """What is answered for one image; below `threshold` the best guess is called unknown."""
    if isinstance(found, Problem):
        error = ErrorRead(code=found.code, message=found.detail, hint=found.hint)
        return RefusedRead(filename=filename, error=error)
    top = _top(found.probabilities, classes, top_k)
    return PredictionRead(
        filename=filename,
        label=top[0].label,
        index=top[0].index,
        probability=top[0].probability,
        unknown=float(found.probabilities[top[0].index]) < threshold,
        top=top,
        warnings=list(found.warnings),
        explanation=explanation,
    )


def _top(probabilities: NDArray[np.float64], classes: Sequence[str], count: int) -> list[Guess]:
    """The most probable classes, the earlier one first where two are equal."""
    order = np.argsort(-probabilities, kind="stable")[:count]
    return [
        Guess(label=classes[i], index=int(i), probability=round(float(probabilities[i]), _DIGITS))
        for i in order
    ]
