"""The speed recipes: what they reach, and in how many seconds of training.

Whole jobs, one after the other in this process, each with a seed of its own. Accuracy is that of
the test images, by the network that would serve predictions.
"""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import defaults
from benchmarks.listeners import say
from benchmarks.training import table
from benchmarks.training.rounds import Plan
from data_store import catalog
from models_store import recipe as recipes
from models_store.recipe import SubmittedRecipe


@dataclass(frozen=True, slots=True)
class Promise:
    """Of a recipe trained on `dataset`: its mean accuracy and mean seconds; None: any."""

    recipe: str
    dataset: str
    accuracy: float
    seconds: float | None


# The copy of CIFAR-10 that is at hand is JPEG at a quality of 75 with half of the colour left out.
PROMISES = [
    Promise("cifar10-fast", "cifar10-jpeg", accuracy=0.889, seconds=5.0),
    Promise("mnist-fast", "mnist", accuracy=0.994, seconds=None),
]
_HEAD = (
    "| recipe | runs | test accuracy: mean | min | max | spread (s.d.) | seconds of training: mean "
    "| min | max | promised | |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
)


def measure(plan: Plan, runs: int) -> tuple[bool, str]:
    """Whether the promises are kept, and the table."""
    good, text = True, _HEAD
    for promise in PROMISES:
        if plan.device == "cpu" and promise.seconds is not None:
            continue  # hours
        found = list(_trained(promise, plan, runs))
        kept, row = _row(promise, found)
        good = good and kept
        text += row
    return good, text


def _trained(promise: Promise, plan: Plan, runs: int) -> Iterator[tuple[float, float]]:
    """Accuracy and seconds of each run. Raises `RuntimeError` if one fails."""
    facts = catalog.facts(promise.dataset, plan.data)
    for seed in range(runs):
        body = {"recipe": promise.recipe, "dataset": promise.dataset, "seed": seed}
        recipe = recipes.resolve(SubmittedRecipe.model_validate(body), facts)
        done = defaults.job(recipe, plan.work, Path(plan.data), defaults.Only(plan.device))
        if done is None:
            raise RuntimeError(f"{promise.recipe} failed")
        metrics, epochs = done
        seconds = sum(epoch.seconds or 0.0 for epoch in epochs)
        say(f"{seed + 1}/{runs} {promise.recipe} {seconds:.2f} s, {metrics['test_accuracy']:.4f}")
        yield metrics["test_accuracy"], seconds


def _row(promise: Promise, found: list[tuple[float, float]]) -> tuple[bool, str]:
    accuracies, seconds = [one for one, _ in found], [one for _, one in found]
    mean, took = statistics.fmean(accuracies), statistics.fmean(seconds)
    kept = mean >= promise.accuracy and (promise.seconds is None or took <= promise.seconds)
    most = "" if promise.seconds is None else f" in at most {promise.seconds:.0f} s"
    cells = (
        f"`{promise.recipe}` on {promise.dataset}",
        str(len(found)),
        *(f"{value:.4f}" for value in (mean, min(accuracies), max(accuracies))),
        f"{statistics.pstdev(accuracies):.4f}",
        *(f"{value:.2f}" for value in (took, min(seconds), max(seconds))),
        f"at least {promise.accuracy:.3f}{most}",
        table.word(kept),
    )
    return kept, f"| {' | '.join(cells)} |\n"
