"""The pictures that go with answers: what the network saw, and what spoke for its label.

Knows answers and images; how a picture is computed is the classifier's.
"""

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from app.schemas import Read
from app.uploads import Image
from problems import Problem

if TYPE_CHECKING:
    from models_store.classifier import Classified, Classifier

Method = Literal["input", "gradcam"]

MOST = 8
"""Images of a request: each costs several times what its answer does."""


class ExplanationRead(Read):
    """A picture at the size of the network's input."""

    method: Method
    png_base64: str


def check_count(method: Method | None, images: int) -> None:
    """Raises `Problem` too_many_files."""
    if method is not None and images > MOST:
        raise Problem(
            "too_many_files",
            f"There are {images} files, and at most {MOST} are explained in one request.",
            hint=f"Send at most {MOST}, or leave explain out.",
            errors=[{"loc": ["query", "explain"], "msg": f"of at most {MOST} images"}],
        )


def of(
    method: Method | None,
    images: Sequence[Image],
    found: "Sequence[Classified | Problem]",
    classifier: "Classifier",
) -> list[ExplanationRead | None]:
    """Why each image got its label; None for one without a label. Raises `Problem`
    no_feature_map.
    """
    labelled = [
        (image.data, int(one.probabilities.argmax()))
        for image, one in zip(images, found, strict=True)
        if not isinstance(image.data, Problem) and not isinstance(one, Problem)
    ]
    if method is None or not labelled:
        return [None] * len(found)
    files, classes = zip(*labelled, strict=True)
    pictures = iter(classifier.explain(files, classes, method))
    return [None if isinstance(one, Problem) else _read(method, next(pictures)) for one in found]


def _read(method: Method, picture: bytes) -> ExplanationRead:
    return ExplanationRead(method=method, png_base64=base64.b64encode(picture).decode("ascii"))
