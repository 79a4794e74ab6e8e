"""What is answered about images, in JSON, and how it comes from probabilities.

The form is that of `app.predictions`. Knows neither requests nor networks.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from models_store.classifier import Classified
from problems import Problem

_DIGITS = 6  # a probability further behind the point differs from machine to machine
_FEW = 64  # classes that are sorted whole as fast as the first of them are found


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of images: so many classes, from which probability on the best guess counts,
    and with which kind of picture.
    """

    top_k: int
    threshold: float
    method: Literal["input", "gradcam"] | None


def answers(
    wanted: Wanted,
    classes: Sequence[str],
    filenames: Sequence[str | None],
    found: Sequence[Classified | Problem],
    pictures: Sequence[bytes | None],
) -> bytes:
    """A JSON list with one element for each image, in order; `pictures` are PNGs."""
    return to_json(
        [
            _refused(name, one)
            if isinstance(one, Problem)
            else _answer(wanted, classes, name, one) | _explanation(wanted, picture)
            for name, one, picture in zip(filenames, found, pictures, strict=True)
        ],
        inf_nan_mode="null",
    )


def _answer(
    wanted: Wanted, classes: Sequence[str], filename: str | None, found: Classified
) -> dict[str, Any]:
    order = _order(found.probabilities, wanted.top_k)
    top = [_guess(classes, found, index) for index in order]
    return {
        "filename": filename,
        **top[0],
        "unknown": bool(found.probabilities[order[0]] < wanted.threshold),
        "top": top,
        "warnings": found.warnings,
    }


def _guess(classes: Sequence[str], found: Classified, index: int) -> dict[str, Any]:
    probability = round(float(found.probabilities[index]), _DIGITS)
    return {"label": classes[index], "index": index, "probability": probability}


def _order(probabilities: NDArray[np.float64], count: int) -> list[int]:
    """The most probable classes, the earlier one first where two are equal."""
    among = np.arange(len(probabilities))
    if count < len(probabilities) > _FEW and np.isfinite(probabilities).all():
        least = np.partition(probabilities, -count)[-count]
        among = np.flatnonzero(probabilities >= least)
    order: list[int] = among[np.argsort(-probabilities[among], kind="stable")[:count]].tolist()
    return order


def _refused(filename: str | None, problem: Problem) -> dict[str, Any]:
    error = {"code": problem.code, "message": problem.detail, "hint": problem.hint}
    return {"filename": filename, "error": error}


def _explanation(wanted: Wanted, picture: bytes | None) -> dict[str, Any]:
    if wanted.method is None or picture is None:
        return {"explanation": None}
    encoded = base64.b64encode(picture).decode("ascii")
    return {"explanation": {"method": wanted.method, "png_base64": encoded}}
