"""What is asked of an inference process, read from what the server says, and its answer.

Knows nothing of sockets, and not which questions are answered together.
"""

from dataclasses import dataclass
from typing import Any

from app.inference.answers import Wanted, answers
from models_store.classifier import Classified, Classifier
from problems import Problem


@dataclass(slots=True)
class Model:
    """A classifier, and how it is fastest."""

    classifier: Classifier
    largest: int  # batch
    threads: int  # for an image that comes when nothing else is computed


@dataclass(slots=True)
class Question:
    """A request: images of a model, and what is wanted of them."""

    number: int
    checkpoint_id: str
    filenames: list[str | None]
    images: list[bytes | Problem]  # a problem: the server did not take it
    model: Model | None  # as it was loaded when it was asked
    wanted: Wanted
    alone: bool  # it may be what ended a process
    idle: bool  # nothing else was computed when it came, in no process


def question(said: dict[str, Any], data: bytes, model: Model | None) -> Question:
    """What the server says, with the bytes of its images one after the other."""
    images: list[bytes | Problem] = []
    start = 0
    for size in said["sizes"]:
        if isinstance(size, dict):
            images.append(Problem(size["code"], size["message"], hint=size["hint"]))
        else:
            images.append(data[start : start + size])
            start += size
    return Question(
        number=said["number"],
        checkpoint_id=said["checkpoint"],
        filenames=said["filenames"],
        images=images,
        model=model,
        wanted=Wanted(said["top_k"], said["threshold"], said["explain"]),
        alone=said["alone"],
        idle=said["idle"],
    )


def answered(
    classifier: Classifier, asked: Question, found: list[Classified | Problem]
) -> tuple[dict[str, Any], bytes]:
    """What is said of a request, and its answers. Of a single image an error is that of all."""
    if len(found) == 1 and isinstance(found[0], Problem):
        return {"problem": as_said(found[0])}, b""
    try:
        pictures = _pictures(classifier, asked, found)
    except Problem as problem:
        return {"problem": as_said(problem)}, b""
    classes = classifier.manifest.classes
    return {}, answers(asked.wanted, classes, asked.filenames, found, pictures)


def _pictures(
    classifier: Classifier, asked: Question, found: list[Classified | Problem]
) -> list[bytes | None]:
    """Why each image got its label; None for one without a label. Raises `Problem`
    no_feature_map.
    """
    labelled = [
        (image, int(one.probabilities.argmax()))
        for image, one in zip(asked.images, found, strict=True)
        if isinstance(one, Classified) and isinstance(image, bytes)
    ]
    method = asked.wanted.method
    if method is None or not labelled:
        return [None] * len(found)
    files, classes = zip(*labelled, strict=True)
    made = iter(classifier.explain(files, classes, method))
    return [next(made) if isinstance(one, Classified) else None for one in found]


def as_said(problem: Problem) -> dict[str, Any]:
    """A problem, as it is told to the server."""
    return {
        "code": problem.code,
        "detail": problem.detail,
        "hint": problem.hint,
        "errors": problem.errors,
    }
