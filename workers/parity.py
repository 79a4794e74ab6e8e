"""The proof that a checkpoint serves as it was judged: files of its validation images, given to
what is loaded from the saved folder, come to the labels that the trained network gave them.

Bounded in images and in time (docs/decisions/0042). Knows no rows.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_store import arrays
from data_store.parts import DataSet
from models_store import reduced
from models_store.classifier import Classified, Classifier, Precision
from models_store.report import Parity
from problems import Problem
from workers.reporter import Stopped
from workers.steps import Run

Integers = NDArray[np.int64]

IMAGES = 1000
SECONDS = 10.0
# Another order of the same sums may put two classes that are as close as this the other way round,
# and does so with one image in a thousand at most.
_CLOSE = 0.01
_SHARE = 0.001
_BATCH = 32


def choose(images: int) -> list[int]:
    """Which of so many images are compared: IMAGES evenly taken, in an order that leaves them even
    wherever time ends it.
    """
    taken = np.unique(np.linspace(0, images - 1, min(images, IMAGES)).astype(int))
    order: list[int] = np.random.default_rng(0).permutation(taken).tolist()
    return order


def files(data: DataSet, root: Path, part: str, rows: Sequence[int]) -> Iterator[bytes | None]:
    """The files of decoded images of a part, each read when its turn comes; None for one that is
    not there any more. Raises what `arrays.some_bytes` raises.
    """
    places = data.places(part)
    return arrays.each_bytes(data.name, root, part, [places[row] for row in rows])


@dataclass(frozen=True, slots=True)
class Proofs:
    """Of float32, and of bfloat16 where the device computes in it natively; None where no image
    could be read any more.
    """

    parity: Parity | None = None
    parity_bf16: Parity | None = None


def prove(
    folder: Path,
    images: Iterator[bytes | None],
    labels: Sequence[int],
    *,
    run: Run,
    seconds: float = SECONDS,
) -> Proofs:
    """Compares the labels that the checkpoint in `folder` gives these files with `labels`.

    Raises `Stopped`, and `Problem` checkpoint_damaged, out_of_memory.
    """
    ends = time.monotonic() + seconds
    comparisons: list[_Comparison] = []
    pairs = ((file, label) for file, label in zip(images, labels, strict=True) if file is not None)
    while batch := list(islice(pairs, _BATCH)):
        comparisons = comparisons or _comparisons(folder, run)
        for one in comparisons:
            one.compare(batch, run)
        if run.stopped():
            raise Stopped
        if time.monotonic() > ends:
            break
    return Proofs(*[one.judged() for one in comparisons])


@dataclass
class _Comparison:
    """A classifier, and the margins of the images whose labels differ."""

    classifier: Classifier
    count: int = 0
    margins: list[float] = field(default_factory=list)

    def compare(self, batch: Sequence[tuple[bytes, int]], run: Run) -> None:
        """Files and the labels that they are to get."""
        answers = _classified(self.classifier, [file for file, _ in batch], run)
        self.count += len(batch)
        self.margins += [
            _margin(answer)
            for answer, (_, label) in zip(answers, batch, strict=True)
            if _label(answer) != label
        ]

    def judged(self) -> Parity:
        """What came of it."""
        allowed = max(1, int(self.count * _SHARE))
        close = all(margin < _CLOSE for margin in self.margins)
        return Parity(
            passed=len(self.margins) <= allowed and close,
            count=self.count,
            different=len(self.margins),
            allowed=allowed,
            largest_margin=max(self.margins, default=None),
        )


def _comparisons(folder: Path, run: Run) -> list[_Comparison]:
    device = str(run.device)
    precisions: list[Precision] = ["fp32", "bf16"] if reduced.is_native(run.device) else ["fp32"]
    return [
        _Comparison(Classifier.load(folder, device=device, precision=one)) for one in precisions
    ]


def told(checkpoint_id: str, proof: Parity) -> str:
    """What a person is to know of a proof that failed."""
    return (
        f"Served from its file, {checkpoint_id} gives {proof.different} of {proof.count} "
        "validation images another label than in training, so no alias will point at it."
    )


def _classified(
    classifier: Classifier, batch: Sequence[bytes], run: Run
) -> list[Classified | Problem]:
    """One answer for each file; in parts where the device has no room for all of them."""

    def attempt(parts: int) -> list[Classified | Problem]:
        size = -(-len(batch) // parts)
        slices = (batch[start : start + size] for start in range(0, len(batch), size))
        return [answer for files in slices for answer in classifier.classify(files)]

    return run.judging.compute(len(batch), attempt)


def _label(answer: Classified | Problem) -> int | None:
    return None if isinstance(answer, Problem) else int(answer.probabilities.argmax())


def _margin(answer: Classified | Problem) -> float:
    """How far the most probable class is before the next; 1 for a file that is refused."""
    if isinstance(answer, Problem):
        return 1.0
    second, first = np.sort(answer.probabilities)[-2:]
    margin = float(first - second)
    return margin if np.isfinite(margin) else 1.0
