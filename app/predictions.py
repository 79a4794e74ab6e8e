"""From probabilities to what is answered: labels, the best few classes, what is odd.

Knows neither requests nor networks.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from app.schemas import ErrorRead, Guess, PredictionRead, RefusedRead
from problems import Problem

if TYPE_CHECKING:
    from models_store.classifier import Classified

_DIGITS = 6  # a probability further behind the point differs from machine to machine


def answer(
    filename: str | None,
    found: "Classified | Problem",
    *,
    classes: Sequence[str],
    top_k: int,
    threshold: float,
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
        explanation=None,
    )


def _top(probabilities: NDArray[np.float32], classes: Sequence[str], count: int) -> list[Guess]:
    """The most probable classes, the earlier one first where two are equal."""
    order = np.argsort(-probabilities, kind="stable")[:count]
    return [
        Guess(label=classes[i], index=int(i), probability=round(float(probabilities[i]), _DIGITS))
        for i in order
    ]
