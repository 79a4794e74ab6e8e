"""The report of a checkpoint, and the pictures that belong to it.

Knows the store and the data sets, no requests. Blocks, so it is called in threads.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import images
from app import samples
from data_store import arrays, catalog
from models_store import report
from models_store.manifest import Preprocessing
from models_store.report import Evaluation, Mistake
from problems import Problem
from settings import Settings


def read(folder: Path) -> Evaluation:
    """The report in a checkpoint's folder. Raises `Problem` not_evaluated, checkpoint_damaged."""
    found = report.read(folder)
    if found is None:
        raise Problem("not_evaluated", f"{folder.name} has not been judged.")
    return found


def confusion(of: Evaluation) -> bytes:
    """The confusion matrix as a PNG."""
    from app import pictures  # matplotlib

    counts = np.array(of.confusion, dtype=np.int64)
    names = [one.label for one in of.classes]
    right = f"{of.accuracy:.4g} of {of.count:,} {of.judged_on} images right"
    return pictures.confusion(counts, names, title=f"{of.checkpoint_id}\n{right}")


def mistakes(of: Evaluation, seen: Preprocessing, settings: Settings) -> bytes:
    """The surest mistakes as a PNG: the images as they lie now, at the size the network saw.

    Raises `Problem` dataset_unknown, dataset_invalid, dataset_not_downloaded, dataset_changed.
    """
    from app import pictures  # matplotlib

    shown = [
        pictures.Shown(pixels, one.label, one.predicted, one.probability)
        for one, pixels in zip(of.mistakes, _images(of, seen, settings), strict=True)
    ]
    wrong = of.count - round(of.accuracy * of.count)
    title = f"{of.checkpoint_id}\nthe surest of {wrong:,} mistakes in {of.count:,} images"
    return pictures.mistakes(shown, [one.label for one in of.classes], title=title)


def _images(
    of: Evaluation, seen: Preprocessing, settings: Settings
) -> list[NDArray[np.uint8] | None]:
    """One for each mistake; None for a file that is gone or cannot be read any more."""
    if not of.mistakes:
        return []
    root, name = settings.datasets, str(of.dataset["name"])
    facts = samples.local(name, root)
    part = of.mistakes[0].part
    known = catalog.facts(name, root, cache=settings.cache).version
    moved = part not in facts.counts or _moved(
        of.mistakes, samples.labels(facts, root, part), facts
    )
    if moved or known not in (None, of.dataset["version"]):
        raise Problem(
            "dataset_changed", f"{name} has changed since {of.checkpoint_id} was judged on it."
        )
    files = arrays.some_bytes(name, root, part, [one.index for one in of.mistakes])
    return [None if file is None else _pixels(file, seen) for file in files]


def _moved(mistakes: Sequence[Mistake], labels: Sequence[int], facts: catalog.Facts) -> bool:
    """Whether an image of another class lies now where a mistake was."""
    return any(
        one.index >= len(labels) or facts.classes[labels[one.index]] != one.label
        for one in mistakes
    )


def _pixels(file: bytes, seen: Preprocessing) -> NDArray[np.uint8] | None:
    try:
        return images.decode(file, size=(seen.height, seen.width), channels=seen.channels).pixels
    except Problem:
        return None
