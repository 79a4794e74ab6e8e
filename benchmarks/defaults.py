"""How good are the recipes that danlu takes by itself, beside others? Makes docs/defaults.md.

    OMP_WAIT_POLICY=passive python -m benchmarks.defaults WORK --data FOLDER [--sets mnist …]
        [--device cuda]
    python -m benchmarks.defaults WORK --data FOLDER --page docs/defaults.md

The first trains each recipe with each seed as a whole job, in this process, and writes a line of
`WORK/results.jsonl` when it is done. What is there already is not trained again, so it may be
stopped, run in parts (`--sets`, `--recipes`, `--seeds`), and run by several at once; a recipe that
has changed is trained anew. `FOLDER` holds data sets: MNIST as torchvision has it, `cifar10-jpeg`
as folders of JPEGs below train/ and test/; what is not there is left out. The second trains nothing
and writes the page of all that is there. Exit code 1 if something cannot be trained.
"""

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.listeners import say
from data_store import catalog
from database import engine, history, jobs
from database.tables import Epoch
from models_store import recipe as recipes
from models_store.recipe import Recipe, SubmittedRecipe
from workers import run_job
from workers.reporter import Stop
from workers.task import Task

DEFAULT = "the default"
SEEDS = [0, 1, 2, 3, 4]
RESULTS = "results.jsonl"
Body = dict[str, Any]
Runs = dict[int, dict[str, Any]]  # what was measured, by seed


def one_cycle(lr: float, name: str = "Adam", **more: Any) -> Body:
    """An optimizer whose rate rises to `lr` and falls to nothing."""
    return {
        "optimizer": {"name": name, "lr": lr, **more},
        "scheduler": {"name": "OneCycleLR", "max_lr": lr},
    }


CONSTANT: Body = {
    "optimizer": {"name": "Adam", "lr": 0.001},
    "scheduler": None,
    "transforms": {"train": []},
}
NESTEROV = {"momentum": 0.9, "nesterov": True}
# What each data set is trained with beside its default, in words and as fields that differ from it.
OTHERS: dict[str, dict[str, Body]] = {
    "digits": {
        "without crops": {"transforms": {"train": []}},
        "30 epochs": {"epochs": 30},
        "SGD to 0.05, Nesterov": one_cycle(0.05, "SGD", **NESTEROV),
    },
    "mnist": {
        "without crops": {"transforms": {"train": []}},
        "without crops, Adam at 0.001": CONSTANT,
        "lenet5 without crops, Adam at 0.001": {"architecture": "lenet5", **CONSTANT},
    },
    "cifar10-jpeg": {
        "cifar10_net, OneCycleLR to 0.002": {"architecture": "cifar10_net", **one_cycle(0.002)},
        "Adam to 0.005": one_cycle(0.005),
        "SGD to 0.1, Nesterov, decay 5e-4": one_cycle(0.1, "SGD", weight_decay=5e-4, **NESTEROV),
        "SGD to 0.05, Nesterov, decay 5e-4": one_cycle(0.05, "SGD", weight_decay=5e-4, **NESTEROV),
        "AdamW to 0.005, decay 0.05": one_cycle(0.005, "AdamW", weight_decay=0.05),
    },
}
SMALL_IMAGES = OTHERS["cifar10-jpeg"]  # also for any set that is not named above
HEADING = """\
# Default recipes, measured

What a [recipe](guide/recipe.md) says by itself for a data set, beside others that differ from it in
what is named. Every job held a part of the training images out, chose its best epoch on them, and
was measured on the test images once. Another recipe wins, and becomes the default, when its mean
validation accuracy lies above the default's by more than twice the standard error of the
difference, seed by seed (the last column). One with more epochs has more looks of which the best is
shown, so it is held to the last epoch's: `digits` with 30 epochs is above by +0.0003 ± 0.0015 then,
over 20 other seeds (decision 40). Seconds are those of training, on average, without reading images
and measuring, on the hardware that the table names. Made by `python -m benchmarks.defaults`.

`mnist` stands for `fashion_mnist` and `kmnist` too, whose recipe is the same; `cifar10-jpeg`
(CIFAR-10 as folders of JPEG files) for `cifar10`, `cifar100` and `svhn`, and for images of one's
own up to 64 pixels, of which there may be fewer: `cifar10-jpeg-500` has the first 500 training
images of each class, and all test images. With so few, the validation images of one run tell little
(40 to 500), so there are more seeds. For larger images there was no data at hand.
"""
TABLE = """
## {name}

On {hardware}.

| recipe | seeds | validation accuracy, mean | test accuracy, mean | least | most | seconds | \
above the default |
|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Trial:
    """A recipe that is trained with one seed."""

    dataset: str
    title: str
    recipe: Recipe


@dataclass(frozen=True)
class Only:
    """The one device, which is always free."""

    name: str

    def give_up(self) -> None:
        """Nobody else wants it."""

    def take(self) -> str:
        """Its name."""
        return self.name

    def hardware(self) -> str:
        """In words, with the version of PyTorch."""
        on = f"{os.cpu_count()} cores without a GPU"
        if self.name != "cpu":
            on = f"one {torch.cuda.get_device_name()}"
        return f"{on}, PyTorch {torch.__version__.partition('+')[0]}"


def main() -> int:
    """Trains what is missing, or writes the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("work", type=Path, help="folder of the results and of decoded images")
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("--sets", nargs="+", default=list(OTHERS))
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--recipes", nargs="+", help=f"titles, such as {DEFAULT!r}")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--epochs", type=int, help="for a try: as many for every recipe")
    parser.add_argument("--page", type=Path, help="write it and train nothing")
    given = parser.parse_args()
    wanted = [
        trial
        for trial in trials(given.data, given.sets, given.seeds, epochs=given.epochs)
        if given.recipes is None or trial.title in given.recipes
    ]
    if given.page:
        given.page.write_text(page(wanted, read(given.work)), encoding="utf-8")
        return 0
    given.work.mkdir(parents=True, exist_ok=True)
    device = Only(given.device)
    failed = [trial for trial in wanted if not done(trial, given.work, given.data, device)]
    return 1 if failed else 0


def trials(data: Path, sets: list[str], seeds: list[int], *, epochs: int | None) -> Iterator[Trial]:
    """Seed by seed, so that after each there is something to compare."""
    here = [name for name in sets if name in catalog.names(data)]
    there = [name for name in here if catalog.facts(name, data).available]
    for seed in seeds:
        for name in there:
            facts = catalog.facts(name, data)
            seen: list[Recipe] = []  # the default is one of the others, for some sets
            for title, differs in {DEFAULT: {}, **OTHERS.get(name, SMALL_IMAGES)}.items():
                asked = {"dataset": name, "seed": seed, **differs}
                asked |= {"epochs": epochs} if epochs else {}
                recipe = recipes.resolve(SubmittedRecipe.model_validate(asked), facts)
                if recipe not in seen:
                    yield Trial(name, title, recipe)
                seen.append(recipe)


def read(work: Path) -> dict[str, dict[str, Any]]:
    """What has been measured, by recipe."""
    try:
        lines = (work / RESULTS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    return {record["recipe"]: record for record in map(json.loads, lines)}


def key(trial: Trial) -> str:
    """The whole recipe with its seed, as text."""
    return json.dumps(trial.recipe.model_dump(mode="json"), sort_keys=True)


def done(trial: Trial, work: Path, data: Path, device: Only) -> bool:
    """Whether there is a result, which is measured if need be."""
    if key(trial) in read(work):
        return True
    began = time.perf_counter()
    measured = train(trial.recipe, work, data, device)
    spent = time.perf_counter() - began
    title = f"{trial.dataset}, {trial.title}, seed {trial.recipe.seed}"
    if measured is None:
        say(f"{title}: FAILED")
        return False
    say(f"{title}: {measured['test']:.4f} in {measured['seconds']:.0f} s, in all {spent:.0f} s")
    with (work / RESULTS).open("a", encoding="utf-8") as file:
        line = {"recipe": key(trial), "hardware": device.hardware(), **measured}
        file.write(json.dumps(line) + "\n")
    return True


def train(recipe: Recipe, work: Path, data: Path, device: Only) -> dict[str, float] | None:
    """A whole job; its accuracies and the seconds of its epochs, None if it failed."""
    done = job(recipe, work, data, device)
    if done is None:
        return None
    metrics, epochs = done
    best = max(epoch.val_accuracy or 0.0 for epoch in epochs)
    seconds = sum(epoch.seconds or 0.0 for epoch in epochs)
    return {"validation": best, "test": metrics["test_accuracy"], "seconds": seconds}


def job(
    recipe: Recipe, work: Path, data: Path, device: Only
) -> tuple[dict[str, Any], list[Epoch]] | None:
    """A whole job on a database of its own; what it measured, None if it failed."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        home = Path(folder)
        url = f"sqlite:///{home / 'danlu.sqlite3'}"
        engine.migrate(url)
        connected = engine.connect(url)
        sessions = engine.session_factory(connected)
        with sessions.begin() as session:
            body = recipe.model_dump(mode="json")
            jobs.enqueue(session, kind="train", dataset=recipe.dataset, recipe=body, owner="")
        with sessions.begin() as session:
            claimed = jobs.claim(session, worker_id="benchmark", host="here", device=device.name)
            assert claimed is not None
            fence = jobs.fence_of(claimed)
        task = Task(
            fence=fence,
            kind="train",
            device=device.name,
            database=url,
            datasets=data,
            cache=work / "cache",
            checkpoints=home / "checkpoints",
            weights=home / "weights",
            runs=home / "runs",
            uploads=home / "uploads",
        )
        outcome = run_job.run(task, device, Stop())
        with sessions() as session:
            metrics = jobs.get(session, fence.job_id).metrics or {}
            epochs = history.epochs(session, fence.job_id)
        connected.dispose()
    if outcome.error is not None:
        say(str(outcome.error))
        return None
    return metrics, epochs


def page(wanted: list[Trial], results: dict[str, dict[str, Any]]) -> str:
    """Every recipe with the seeds that have been measured."""
    sets: dict[str, dict[str, Runs]] = {}
    for trial in wanted:
        if key(trial) in results:
            runs = sets.setdefault(trial.dataset, {}).setdefault(trial.title, {})
            runs[trial.recipe.seed] = results[key(trial)]
    text = HEADING
    for name, tried in sets.items():
        used = {run["hardware"] for runs in tried.values() for run in runs.values()}
        text += TABLE.format(name=name, hardware="; ".join(sorted(used)))
        text += "".join(row(title, runs, tried[DEFAULT]) for title, runs in tried.items())
    return text


def row(title: str, runs: Runs, default: Runs) -> str:
    """Of the table."""
    measured = list(runs.values())
    columns = {name: [one[name] for one in measured] for name in ("validation", "test", "seconds")}
    mean = {name: statistics.fmean(values) for name, values in columns.items()}
    cells = (
        title,
        str(len(measured)),
        f"{mean['validation']:.4f}",
        f"{mean['test']:.4f}",
        f"{min(columns['test']):.4f}",
        f"{max(columns['test']):.4f}",
        f"{mean['seconds']:.0f}",
        "" if title == DEFAULT else above(runs, default),
    )
    return f"| {' | '.join(cells)} |\n"


def above(runs: Runs, default: Runs) -> str:
    """By how much the validation accuracy is higher than the default's with the same seeds, and the
    standard error of that.
    """
    both = runs.keys() & default.keys()
    differences = [runs[seed]["validation"] - default[seed]["validation"] for seed in both]
    if len(differences) < 2:
        return ""
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return f"{statistics.fmean(differences):+.4f} ± {error:.4f}"


if __name__ == "__main__":
    sys.exit(main())
