"""The pixels of the built-in data sets, as they lie in their own files.

torchvision's classes read them, so that a folder of theirs is taken as it is; it is imported here,
when it is needed, and nowhere else.
"""

import gzip
import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_store.built_in import SETS
from problems import Problem

_DIGITS_TEST_EVERY = 5


class Raw(NamedTuple):
    """Images uint8 (N, H, W, C) at their own size, and their labels (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def files(name: str, root: Path) -> list[Path]:
    """The files that a built-in set is read from, whether they are there or not."""
    if name == "digits":
        return [_digits_file()]
    return [root / held for file in SETS[name].files for held in file.holds]


def read(name: str, root: Path, part: str) -> Raw:
    """One part, "train" or "test", of a built-in set whose files are there.

    Raises `dataset_invalid` when torchvision refuses them: what it unpickles has passed its md5
    check before.
    """
    if name == "digits":
        return _digits(_digits_file(), part)
    # Costs a second or two and 160 MB: not before it must be.
    import torchvision.datasets

    kind = getattr(torchvision.datasets, str(SETS[name].reader))
    return read_with(kind, root, part, classes=len(SETS[name].classes))


def read_with(kind: Any, root: Path, part: str, *, classes: int) -> Raw:
    """One part as `kind`, one of torchvision's classes, reads it. Raises `dataset_invalid`."""
    which = {"split": part} if hasattr(kind, "split_list") else {"train": part == "train"}
    try:
        found = kind(root, download=False, **which)
        labels = np.asarray(found.labels if "split" in which else found.targets, np.int64)
        raw = Raw(_as_nhwc(np.asarray(found.data)), labels)
    # torchvision says "corrupted" as RuntimeError; cut-off idx files fail where they happen to.
    except (RuntimeError, ValueError, TypeError, KeyError, AssertionError) as error:
        raise _damaged(kind, root, part, str(error)) from error
    if len(raw.images) != len(labels):
        raise _damaged(kind, root, part, f"{len(raw.images)} images, {len(labels)} labels")
    if not len(labels) or labels.min() < 0 or labels.max() >= classes:
        raise _damaged(kind, root, part, "labels that are none of its classes")
    return raw


def _as_nhwc(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if images.ndim == 3:
        return images[..., np.newaxis]
    return images.transpose(0, 2, 3, 1) if images.shape[1] == 3 else images


def _damaged(kind: Any, root: Path, part: str, what: str) -> Problem:
    return Problem(
        "dataset_invalid",
        f"The {part} files of {kind.__name__} in {root} are damaged: {what}.",
        hint="Remove them; they are downloaded again by the next training.",
    )


def _digits_file() -> Path:
    """scikit-learn's copy of the digits. Found without importing it, which takes seconds."""
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        raise Problem(
            "dataset_unavailable",
            "digits comes with scikit-learn, which is not installed.",
            hint="Install it: pip install scikit-learn",
        )
    return Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"


def _digits(file: Path, part: str) -> Raw:
    """64 brightnesses from 0 to 16 and the digit in each line."""
    with gzip.open(file, "rt") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.int64)
    in_test = np.arange(len(table)) % _DIGITS_TEST_EVERY == 0
    chosen = table[in_test if part == "test" else ~in_test]
    images = np.round(chosen[:, :-1] * (255 / 16)).astype(np.uint8)
    return Raw(images.reshape(-1, 8, 8, 1), chosen[:, -1])
