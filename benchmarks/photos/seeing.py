"""One photo: made, classified, and held against the same pixels saved plainly."""

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.photos.phones import Photo, photo
from models_store.classifier import Classified, Classifier


@dataclass(frozen=True, slots=True)
class Seen:
    """A photo: whether its label is that of the plain file, of which the two most probable classes
    are `apart`, and what it took.
    """

    kind: str
    same: bool
    apart: float
    seconds: float
    size: int  # bytes


def seen(number: int, file: Path, megapixels: float, folder: Path) -> Seen:
    """Makes a photo and classifies it, in a process that may have done so before."""
    with Image.open(file) as image:
        made = photo(number, image.convert("RGB"), megapixels=megapixels)
    return _compared(_loaded(folder), made)


@cache
def _loaded(folder: Path) -> Classifier:
    torch.set_num_threads(1)
    return Classifier.load(folder)


def _compared(classifier: Classifier, made: Photo) -> Seen:
    """Raises `RuntimeError` for one that cannot be read."""
    began = time.perf_counter()
    [found] = classifier.classify([made.data])
    seconds = time.perf_counter() - began
    [plain] = classifier.classify([made.plain])
    if not isinstance(found, Classified) or not isinstance(plain, Classified):
        raise RuntimeError(f"{made.name} cannot be read: {found}, {plain}")
    first, second = np.sort(plain.probabilities)[:-3:-1]
    same = bool(found.probabilities.argmax() == plain.probabilities.argmax())
    kind = made.name.rpartition(".")[2]
    return Seen(kind, same, float(first - second), seconds, len(made.data))
