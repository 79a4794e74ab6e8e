"""The figures of a report, from a network's outputs and the true classes. Pure numpy, in float64.

Outputs come batch by batch and only a few numbers an image are kept, so a large part needs little
memory. Knows neither networks nor files.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models_store.report import Averages, Bin, Calibration, ClassReport

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

BINS = 15
MISTAKES = 20
# The inverse temperature is searched in here, and there is only one: the likelihood is concave
# in it. Outside, probabilities are equal or certain for all that float32 can say.
_COLDEST, _HOTTEST = 1e2, 1e-6
# Fewer images tell nothing: the temperature stays 1.
_FEWEST = 30
# Fewer mistakes do not tell how sure a network may be: one that makes none would be told to be
# certain. It is only made less sure then, never more.
_MISTAKES_TO_SHARPEN = 10
# Outputs kept to fit the temperature on, in numbers: 4,000 images of 1,000 classes are plenty for a
# single number, and take 4 s.
_KEPT = 4_000_000
_CHUNK = 4096


class Outputs:
    """Outputs (logits) of a part, kept to fit a temperature on; of a large one only some images."""

    def __init__(self, images: int, classes: int) -> None:
        self._stride = max(1, -(-images * classes // _KEPT))
        self._seen = 0
        self._logits: list[NDArray[np.float32]] = []
        self._labels: list[Integers] = []

    def add(self, logits: NDArray[np.float32], labels: Integers) -> None:
        """Logits (n, classes) and true classes (n,) of the next images."""
        taken = slice(-self._seen % self._stride, None, self._stride)
        self._seen += len(labels)
        self._logits.append(logits[taken].copy())
        self._labels.append(labels[taken])

    def temperature(self) -> tuple[float | None, int]:
        """The fitted temperature, and the number of images that it was fitted on."""
        logits, labels = np.concatenate(self._logits), np.concatenate(self._labels)
        return fit_temperature(logits, labels), len(labels)


def fit_temperature(logits: NDArray[np.float32], labels: Integers) -> float | None:
    """The temperature that makes the true classes most likely; 1 where there are too few
    images to tell, None for outputs not finite.

    Guo et al. 2017, section 4.2. Newton's method on the inverse temperature, in which the
    likelihood is concave, with bisection where a step would leave the bracket.
    """
    if not np.isfinite(logits).all():
        return None
    if len(labels) < _FEWEST:
        return 1.0
    mistakes = int((logits.argmax(1) != labels).sum())
    cold = 1.0 if mistakes < _MISTAKES_TO_SHARPEN else _COLDEST
    low, high = _HOTTEST, cold
    inverse = 1.0
    for _ in range(200):
        slope, curvature = _slopes(logits, labels, inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / curvature if curvature > 0 else np.inf
        following = step if low < step < high else (low * high) ** 0.5
        if abs(following - inverse) <= 1e-12 * inverse:
            break
        inverse = float(following)
    return 1 / inverse


def _slopes(logits: NDArray[np.float32], labels: Integers, inverse: float) -> tuple[float, float]:
    """First and second derivative, by the inverse temperature, of the mean negative log
    likelihood: mean and variance of the outputs under the predicted distribution.
    """
    slope = curvature = 0.0
    for start in range(0, len(labels), _CHUNK):
        part = logits[start : start + _CHUNK].astype(np.float64)
        rows = np.arange(len(part))
        # Only differences count; this way large outputs lose nothing.
        part -= part[rows, labels[start : start + _CHUNK]][:, None]
        probabilities = _softmax(part * inverse)
        mean = (probabilities * part).sum(1)
        slope += mean.sum()
        curvature += (probabilities * (part - mean[:, None]) ** 2).sum()
    return slope / len(labels), curvature / len(labels)


def _softmax(logits: Floats) -> Floats:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True))


@dataclass(slots=True)
class Tally:
    """What is remembered of each judged image, in the order in which they are added."""

    classes: int
    temperature: float | None
    _labels: list[Integers] = field(default_factory=list)
    _predicted: list[Integers] = field(default_factory=list)
    _among_five: list[NDArray[np.bool_]] = field(default_factory=list)
    # Confidence and negative log likelihood before and after the temperature: (n, 4).
    _sureness: list[Floats] = field(default_factory=list)

    def add(self, logits: NDArray[np.float32], labels: Integers) -> None:
        """Logits (n, classes) and true classes (n,) of the next images."""
        exact = logits.astype(np.float64)
        rows = np.arange(len(labels))
        self._labels.append(labels)
        self._predicted.append(exact.argmax(1))
        true = exact[rows, labels][:, None]
        # As argmax does, of equals the earlier class comes first.
        earlier = np.arange(self.classes) < labels[:, None]
        ahead = (exact > true).sum(1) + ((exact == true) & earlier).sum(1)
        self._among_five.append(ahead < 5)
        columns = []
        for temperature in (1.0, self.temperature or 1.0):
            with np.errstate(invalid="ignore"):
                scaled = (exact - exact.max(1, keepdims=True)) / temperature
                total = np.log(np.exp(scaled).sum(1))
            # The largest is zero by now, so its probability is one over the sum.
            columns += [np.exp(-total), total - scaled[rows, labels]]
        self._sureness.append(np.stack(columns, axis=1))

    @property
    def labels(self) -> Integers:
        """True classes (N,)."""
        return np.concatenate(self._labels)

    @property
    def predicted(self) -> Integers:
        """Predicted classes (N,)."""
        return np.concatenate(self._predicted)

    @property
    def confidence(self) -> Floats:
        """Of each prediction (N,), after the temperature."""
        return np.asarray(np.concatenate(self._sureness)[:, 2])

    def accuracy(self) -> float:
        """The share of right predictions."""
        return float((self.predicted == self.labels).mean())

    def top5_accuracy(self) -> float | None:
        """The share of images whose class is among the first five; None where it always is."""
        if self.classes <= 5:
            return None
        return float(np.concatenate(self._among_five).mean())

    def confusion(self) -> Integers:
        """Number of images (classes, classes) by true class, then by predicted one."""
        pairs = self.labels * self.classes + self.predicted
        counted = np.bincount(pairs, minlength=self.classes**2)
        return counted.reshape(self.classes, self.classes)

    def mistakes(self) -> Integers:
        """Places, as added, of the wrong predictions that were surest, surest first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        order = np.argsort(-self.confidence[wrong], kind="stable")
        return wrong[order[:MISTAKES]]

    def calibration(self, *, fitted_count: int) -> Calibration | None:
        """None without a temperature, or for outputs not finite."""
        sureness = np.concatenate(self._sureness)
        if self.temperature is None or np.isnan(sureness).any():
            return None
        right = self.predicted == self.labels
        before, after = reliability(sureness[:, 0], right), reliability(sureness[:, 2], right)
        return Calibration(
            temperature=self.temperature,
            fitted_count=fitted_count,
            ece_before=expected_error(before),
            ece_after=expected_error(after),
            nll_before=float(sureness[:, 1].mean()),
            nll_after=float(sureness[:, 3].mean()),
            bins_before=before,
            bins_after=after,
        )


def reliability(confidence: Floats, right: NDArray[np.bool_]) -> list[Bin]:
    """BINS bins of equal width over 0 to 1, each closed at its upper end."""
    edges = np.linspace(0, 1, BINS + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, BINS - 1)
    found = []
    for number in range(BINS):
        inside = place == number
        count = int(inside.sum())
        found.append(
            Bin(
                lower=float(edges[number]),
                upper=float(edges[number + 1]),
                count=count,
                confidence=float(confidence[inside].mean()) if count else None,
                accuracy=float(right[inside].mean()) if count else None,
            )
        )
    return found


def expected_error(bins: list[Bin]) -> float:
    """The expected calibration error."""
    images = sum(one.count for one in bins)
    return sum(
        one.count / images * abs(one.accuracy - one.confidence)
        for one in bins
        if one.accuracy is not None and one.confidence is not None
    )


def per_class(confusion: Integers, names: list[str]) -> tuple[list[ClassReport], Averages]:
    """Precision, recall and F1 of each class, and their means."""
    right = np.diag(confusion)
    support, called = confusion.sum(1), confusion.sum(0)
    figures = {
        "precision": _shares(right, called),
        "recall": _shares(right, support),
        "f1": _shares(2 * right, support + called),
    }
    classes = [
        ClassReport(
            index=index,
            label=name,
            support=int(support[index]),
            **{title: values[index] for title, values in figures.items()},
        )
        for index, name in enumerate(names)
    ]
    return classes, Averages(**{title: _mean(values) for title, values in figures.items()})


def _shares(parts: Integers, wholes: Integers) -> list[float | None]:
    return [int(p) / int(w) if w else None for p, w in zip(parts, wholes, strict=True)]


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
