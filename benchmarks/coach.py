"""Does the coach speak on runs made to fail, and stay silent on good ones?

    python -m benchmarks.coach [--mnist FOLDER]

Trains on digits, in this process and without rows: three runs made to fail in its three ways, some
more of each, and good ones with many optimizers, rates and seeds. `--mnist` names the folder of
data sets that holds real MNIST, for subsets of it; and for sets of a dozen to fifty photographs a
class, if it holds CIFAR-10 as JPEGs in `cifar10-jpeg/train` too. These go as well as they can: the
coach is to be silent. Prints a table; exit code 1 if it was wrong.
"""

import argparse
import shutil
import sys
import tempfile
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.listeners import say
from data_store import arrays, catalog
from data_store.parts import DataSet, Part, Sums
from models_store import architectures, preprocess, recipe
from models_store.recipe import Recipe, SubmittedRecipe
from workers import coach, training
from workers.coach import DIVERGED, NOTHING_LEARNED, OVERFITTING
from workers.split import split
from workers.training import Run, Tick
from workers.watching import Earlier, listener

Indices = NDArray[np.int64]
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """A run, and what the coach is to say first; None: nothing at all."""

    title: str
    expected: str | None
    recipe: dict[str, Any] = field(default_factory=dict)
    dataset: str = "digits"
    images: int | None = None  # so many training images only
    shuffled: bool = False  # labels that mean nothing


def sgd(lr: float, **more: Any) -> dict[str, Any]:
    """A recipe's optimizer, without a schedule."""
    return {"optimizer": {"name": "SGD", "lr": lr, **more}}


def adam(lr: float, name: str = "Adam", **more: Any) -> dict[str, Any]:
    """The same with Adam or AdamW."""
    return {"optimizer": {"name": name, "lr": lr, **more}}


FAILING = [
    Case("SGD at 1,000", DIVERGED, sgd(1e3)),
    Case("Adam at 1,000", DIVERGED, adam(1e3)),
    Case("default schedule at 100", DIVERGED, {"lr": 100.0}),
    Case("a rate of 0", NOTHING_LEARNED, sgd(0.0)),
    Case("a rate of 1e-6, 3 epochs", NOTHING_LEARNED, {**sgd(1e-6), "epochs": 3}),
    Case("shuffled labels", NOTHING_LEARNED, shuffled=True),
    Case("shuffled labels, SGD", NOTHING_LEARNED, sgd(0.05, momentum=0.9), shuffled=True),
    Case("60 images, 60 epochs", OVERFITTING, {**adam(0.003), "epochs": 60}, images=60),
    Case("60 images, SGD", OVERFITTING, {**sgd(0.05, momentum=0.9), "epochs": 60}, images=60),
]
GOOD = [
    Case("the default", None),
    *(Case(f"seed {seed}", None, {"seed": seed}) for seed in (1, 2, 3)),
    Case("SGD at 0.01", None, sgd(0.01)),
    Case("SGD at 0.1", None, sgd(0.1)),
    Case("SGD with momentum", None, sgd(0.02, momentum=0.9, nesterov=True)),
    Case("Adam at 0.0003", None, adam(0.0003)),
    Case("Adam at 0.01", None, adam(0.01)),
    Case("AdamW", None, adam(0.001, "AdamW", weight_decay=0.05)),
    Case("40 epochs", None, {"epochs": 40}),
    Case("lenet5", None, {"architecture": "lenet5", **adam(0.005), "epochs": 20}),
]
PHOTOS = "cifar10-jpeg"
TINY = {
    "12 cats and dogs": (12, ("cat", "dog")),
    "12 planes and frogs": (12, ("airplane", "frog")),
    "12 of five classes": (12, ("airplane", "automobile", "cat", "frog", "ship")),
    "20 of three classes": (20, ("airplane", "frog", "ship")),
    "50 cars and horses": (50, ("automobile", "horse")),
    "50 of five classes": (50, ("airplane", "automobile", "cat", "frog", "ship")),
}
"""Images of each class, and which classes."""
OF_FEW = [
    *(
        Case(f"{name}{how}, seed {seed}", None, {**more, "seed": seed}, dataset=name)
        for name in TINY
        for how, more in (("", {}), (", SGD", sgd(0.05, momentum=0.9)))
        for seed in (0, 1)
    ),
    *(  # without batch norm the loss leaps while the rate is high, and comes back
        Case(f"{name}, cifar10_net", None, {"architecture": "cifar10_net"}, dataset=name)
        for name in ("12 planes and frogs", "20 of three classes", "50 cars and horses")
    ),
    Case("12 cats and dogs, SGD at 1,000", DIVERGED, sgd(1e3), dataset="12 cats and dogs"),
]
MNIST = [
    Case(f"{images:,} images of MNIST", None, {"epochs": 8}, dataset="mnist", images=images)
    for images in (1000, 5000)
]


def main() -> int:
    """Exit code 1 when the coach was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mnist", type=Path, help="folder of data sets that holds MNIST/raw")
    given = parser.parse_args()
    photos = given.mnist / PHOTOS / "train" if given.mnist else None
    few = photos is not None and photos.is_dir()
    cases = FAILING + GOOD + (MNIST if given.mnist else []) + (OF_FEW if few else [])
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        if photos is not None and few:
            _take_few(photos, Path(folder))
        for case in cases:
            root = given.mnist if case.dataset == "mnist" else Path(folder)
            said, accuracy = advice(case, root, Path(folder) / "cache")
            first = said[0].code if said else None
            wrong += first != case.expected or len(said) > 1
            spoken = "; ".join(f"{one.code}: {one.message}" for one in said) or "silent"
            say(
                f"{'' if first == case.expected else 'WRONG '}{case.title}: {accuracy:.3f} {spoken}"
            )
    say(f"{wrong} of {len(cases)} wrong")
    return 1 if wrong else 0


def advice(case: Case, root: Path, cache: Path) -> tuple[list[coach.Advice], float]:
    """What the coach said of a run, and the last validation accuracy."""
    asked = {"dataset": case.dataset, "seed": 0, "precision": "fp32", **case.recipe}
    submitted = SubmittedRecipe.model_validate(asked)
    wanted = recipe.resolve(submitted, catalog.facts(case.dataset, root))
    data = _data(case, root, cache, size=wanted.size, channels=wanted.channels)
    if "val" in data.parts:
        wanted = wanted.model_copy(update={"validation": "val"})
    parts = split(data, wanted, CPU)
    torch.manual_seed(wanted.seed)
    planned = architectures.plan(
        wanted.architecture,
        channels=wanted.channels,
        size=wanted.input_size,
        classes=len(data.classes),
    )
    run = _run(wanted, data)
    steps = training.steps_per_epoch(len(parts.train), wanted) * wanted.epochs
    begun = training.begin(architectures.build(planned), wanted, run, steps=steps)
    hears = listener(wanted, parts, steps=steps, earlier=Earlier())
    said: list[coach.Advice] = []
    accuracy = 0.0
    for event in training.fit(begun, parts.train, parts.validation, recipe=wanted, run=run):
        if not isinstance(event, Tick):
            accuracy = event.validation.accuracy
        said += hears(event)
    return said, accuracy


def _run(wanted: Recipe, data: DataSet) -> Run:
    normalize = wanted.normalize
    if normalize == "auto":
        normalize = preprocess.measure_normalize(*astuple(Sums.of(data.parts["train"].images)))
    return Run(
        device=CPU,
        precision="fp32",
        normalize=normalize,
        stopped=lambda: False,
        transforms=wanted.transforms.shaping,
        classes=len(data.classes),
    )


def _take_few(photos: Path, root: Path) -> None:
    """Lays the sets of `TINY` out below `root`."""
    for name, (count, classes) in TINY.items():
        for label in classes:
            (root / name / label).mkdir(parents=True)
            for file in sorted((photos / label).iterdir())[:count]:
                shutil.copy(file, root / name / label)


def _data(case: Case, root: Path, cache: Path, *, size: tuple[int, int], channels: int) -> DataSet:
    data = arrays.load(
        case.dataset, root=root, cache=cache, size=size, channels=channels, progress=lambda *_: None
    )
    if case.dataset in TINY:
        return data
    train = data.parts["train"]
    labels = train.labels
    chance = np.random.default_rng(0)
    if case.shuffled:
        labels = chance.permutation(labels)
    chosen = chance.permutation(len(labels))[: case.images]
    if case.images is not None and case.dataset == "digits":
        # Few to train on, many to validate on.
        rest = np.setdiff1d(np.arange(len(labels)), chosen)
        held_out = _some(train, labels, rest)
        return replace(data, parts={"train": _some(train, labels, chosen), "val": held_out})
    return replace(data, parts={"train": _some(train, labels, chosen)})


def _some(part: Part, labels: Indices, rows: Indices) -> Part:
    return Part(part.images[rows], labels[rows], part.borders[rows], part.spreads[rows])


if __name__ == "__main__":
    sys.exit(main())
