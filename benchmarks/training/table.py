"""What was measured, as tables: ratios between contenders that took turns, run by run.

Knows nothing of how it was measured.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HALF_A_POINT = 0.005
Runs = Mapping[str, Sequence[Mapping[str, Any]]]  # of each contender, in the order of the rounds


@dataclass(frozen=True, slots=True)
class Promise:
    """Of a case: `first` takes `factor` times as long as `second`; at least, or at most."""

    case: str
    first: str
    second: str
    factor: float
    least: bool

    def kept(self, ratio: float) -> bool:
        return ratio >= self.factor if self.least else ratio <= self.factor

    def bound(self) -> str:
        return f"{'at least' if self.least else 'at most'} {self.factor:.2f}"


PROMISES = [
    Promise("cifar10_net", "notes", "danlu auto", 4.0, least=True),
    Promise("cifar10_net", "notes", "danlu fp32", 1.5, least=True),
    Promise("cifar10_net", "danlu auto", "limit auto", 1.05, least=False),
    Promise("cifar10_net", "danlu fp32", "limit fp32", 1.05, least=False),
    Promise("mnist_net", "notes", "danlu auto", 3.5, least=True),
    Promise("mnist_net", "notes", "danlu fp32", 1.5, least=True),
    Promise("mnist_net", "danlu auto", "limit auto", 1.05, least=False),
    Promise("mnist_net", "danlu fp32", "limit fp32", 1.05, least=False),
]
ON_GPU = [
    Promise("cifar10_net", "notes", "danlu auto", 40.0, least=True),
    Promise("cifar10_net", "danlu auto", "limit auto", 1.05, least=False),
    Promise("mnist_net", "notes", "danlu auto", 40.0, least=True),
    Promise("mnist_net", "danlu auto", "limit auto", 1.05, least=False),
]


def times(runs: Runs) -> str:
    """Of each contender: an epoch's training part, the images each second, what is beside it."""
    text = (
        "| contender | epoch, s: median | min | max | images/s | ms a step | evaluation, s "
        "| accuracy | peak memory, MB |\n|---|---|---|---|---|---|---|---|---|\n"
    )
    for name, found in runs.items():
        seconds = [epoch(one) for one in found]
        median = statistics.median(seconds)
        cells = (
            name,
            *(f"{value:.2f}" for value in (median, min(seconds), max(seconds))),
            f"{found[0]['images'] / median:,.0f}",
            f"{median / found[0]['steps'] * 1000:.2f}",
            _mean(found, "evaluations", "{:.2f}"),
            _mean(found, "accuracies", "{:.4f}"),
            f"{max(one['peak_mb'] for one in found):,.0f}",
        )
        text += f"| {' | '.join(cells)} |\n"
    return text


def ratios(case: str, runs: Runs, promises: Sequence[Promise]) -> tuple[str, bool]:
    """Of the promises about a case, each round's own; and whether all medians keep them."""
    text = "| ratio | median | min | max | promised | |\n|---|---|---|---|---|---|\n"
    good = True
    for one in promises:
        if one.case != case or not {one.first, one.second} <= runs.keys():
            continue
        pairs = zip(runs[one.first], runs[one.second], strict=True)
        found = [epoch(first) / epoch(second) for first, second in pairs]
        kept = one.kept(statistics.median(found))
        good = good and kept
        cells = (
            f"{one.first} : {one.second}",
            *(f"{value:.2f}" for value in (statistics.median(found), min(found), max(found))),
            one.bound(),
            word(kept),
        )
        text += f"| {' | '.join(cells)} |\n"
    return text, good


def accuracies(runs: Runs, *, least_share: float | None) -> tuple[str, bool]:
    """How each ends, beside the notes' loop; whether danlu's mean is as good, to within half a
    point, or where `least_share` is given to that share of the notes'.
    """
    text = (
        "| contender | test accuracy: mean | min | max | promised | |\n|---|---|---|---|---|---|\n"
    )
    good = True
    ends = {name: [one["accuracies"][-1] for one in found] for name, found in runs.items()}
    notes = statistics.fmean(ends["notes"])
    least = notes * least_share if least_share else notes - HALF_A_POINT
    for name, found in ends.items():
        mean = statistics.fmean(found)
        cells = [name, *(f"{value:.4f}" for value in (mean, min(found), max(found)))]
        kept = mean >= least
        good = good and (kept or name == "notes")
        told = [f"at least {least:.4f}", word(kept)]
        cells += ["", ""] if name == "notes" else told
        text += f"| {' | '.join(cells)} |\n"
    return text, good


def word(kept: bool) -> str:
    """Of a promise."""
    return "kept" if kept else "**not kept**"


def epoch(measured: Mapping[str, Any]) -> float:
    """Seconds of a run's last epoch: those before it warm caches up."""
    return float(measured["seconds"][-1])


def middle(values: Sequence[float], form: Callable[[float], str]) -> str:
    """Median, least and most."""
    low, high = min(values), max(values)
    return f"{form(statistics.median(values))} ({form(low)} to {form(high)})"


def _mean(found: Sequence[Mapping[str, Any]], column: str, form: str) -> str:
    """Over the runs, of what each had last; "" where there is none."""
    last = [one[column][-1] for one in found if one[column]]
    return form.format(statistics.fmean(last)) if last else ""
