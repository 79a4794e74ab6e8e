"""Trains some small networks, each by two processes together and then by one, and prints as JSON
how the two compare. Run by test_group, since processes that share a training are forks of one that
has computed nothing yet.
"""

import itertools
import json
import os
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models_store import recipe as recipes
from models_store.recipe import Recipe, SubmittedRecipe
from tests.workers.conftest import Facts
from tests.workers.noise import samples
from workers import losses, ranks, training
from workers.group import Group
from workers.training import EpochEnd, Run, Tick

CPU = torch.device("cpu")
SGD = {"name": "SGD", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
WEIGHTS = [0.5, 2.0, 1.0, 0.1, 3.0, 1.0, 1.0, 0.2, 1.0, 4.0]
CHANCE = [
    {"type": "RandomCrop", "padding": 2},
    {"type": "RandomHorizontalFlip"},
    {"type": "RandomErasing", "p": 1.0},
]

# What differs from the usual. `images` and `batch_size` are such that last batches are small.
SCENARIOS: dict[str, dict[str, Any]] = {
    "plain": {"images": 50},
    "one image left": {"images": 49},
    "accumulated": {
        "images": 55,
        "grad_accumulation": 3,
        "class_weights": WEIGHTS,
        "clip_grad_norm": 0.5,
    },
    "some ignored": {
        "images": 50,
        "loss": {"name": "CrossEntropyLoss", "ignore_index": 3, "label_smoothing": 0.1},
    },
    "mixed": {
        "images": 50,
        "class_weights": WEIGHTS,
        "transforms": {"train": [*CHANCE, {"type": "MixUp"}, {"type": "CutMix"}]},
    },
    "summed": {"images": 50, "lr": 0.001, "loss": {"name": "MSELoss", "reduction": "sum"}},
    "plateau": {
        "images": 50,
        "epochs": 4,
        "scheduler": {"name": "ReduceLROnPlateau", "patience": 0, "threshold": 0.9},
        "early_stopping": {"patience": 2, "min_delta": 9.0},
    },
    "in parts there": {"images": 50, "parts_of": 3},
    "normalised": {"images": 49, "normalises": True},
    "changed by each": {"images": 50, "transforms": {"train": [{"type": "RandAugment"}]}},
    "stopped": {"images": 50, "epochs": 1000, "stops_after": 2},
    "out of time": {"images": 50, "epochs": 100_000, "max_seconds": 0.2},
}


def recipe_of(scenario: dict[str, Any]) -> Recipe:
    ours = ("images", "normalises", "parts_of", "stops_after")
    said = {key: value for key, value in scenario.items() if key not in ours}
    asked = {
        **{"dataset": "shapes", "seed": 0, "precision": "fp32", "device": "cpu", "epochs": 2},
        **{"batch_size": 16, "optimizer": {k: v for k, v in SGD.items() if k != "lr"}, "lr": 0.05},
        **said,
    }
    return recipes.resolve(SubmittedRecipe.model_validate(asked), Facts())


def network(*, normalises: bool) -> nn.Module:
    torch.manual_seed(0)
    norm = [nn.BatchNorm2d(4)] if normalises else []
    layers = [nn.Conv2d(1, 4, 3), *norm, nn.ReLU(), nn.Flatten(), nn.Linear(400, 10)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def train(name: str, group: Group) -> dict[str, Any]:
    """One scenario: what it came to, of whoever leads or is alone."""
    scenario = SCENARIOS[name]
    recipe, built = recipe_of(scenario), network(normalises=scenario.get("normalises", False))
    data, judged = samples(scenario["images"], seed=0), samples(1030, seed=1)
    loss = losses.build(recipe.loss, recipe.class_weights, data.labels, classes=10)
    asked = itertools.count(1)
    run = Run(
        device=CPU,
        precision="fp32",
        normalize=None,
        stopped=lambda: next(asked) > scenario.get("stops_after", 10**9),
        classes=10,
        loss=loss,
    ).shared(group)
    least = training.smallest_batch(built)
    steps = training.steps_per_epoch(len(data), recipe, least=least) * recipe.epochs
    begun = training.begin(built, recipe, run, steps=steps)
    if group.rank == 1:
        begun.learning.most = scenario.get("parts_of")
        if name == "changed by each":
            begun.chance.manual_seed(1)
    events = list(training.fit(begun, data, judged, recipe=recipe, run=run))
    ends = [event for event in events if isinstance(event, EpochEnd)]
    weights = torch.cat([one.detach().reshape(-1) for one in built.state_dict().values()])
    twice = group.sum(weights) if group.size == 2 else 2 * weights
    return {
        "weights": weights,
        "alike": torch.equal(twice, 2 * weights),
        "steps": begun.step,
        "ticks": sum(isinstance(event, Tick) for event in events),
        "measured": [
            (end.train.loss, end.train.accuracy, end.validation.loss, end.validation.accuracy)
            for end in ends
        ],
        "images": [round(end.images_per_second * end.seconds) for end in ends],
        "lr": [end.lr for end in ends],
        "stop_reason": ends[-1].stop_reason if ends else None,
    }


def groups(rank: int, words: list[Connection], folder: Path) -> Callable[[str], Group]:
    def group(name: str) -> Group:
        return Group(rank, 2, words=words, alike=name != "changed by each")

    group("the first").join(CPU, folder)
    return group


def main() -> None:
    folder = Path(tempfile.mkdtemp())

    def follow(rank: int, words: Connection) -> None:
        group = groups(rank, [words], folder)
        for name in SCENARIOS:
            train(name, group(name))
        words.recv()

    followers = ranks.fork(1, follow)
    followers.watch(on_failed=sys.stderr.write, on_gone=lambda how: os.abort())
    group = groups(0, followers.words, folder)
    together = {name: train(name, group(name)) for name in SCENARIOS}
    followers.end()
    found = {}
    for name, two in together.items():
        one = train(name, Group())
        difference = (one.pop("weights") - two.pop("weights")).abs().max()
        found[name] = {"one": one, "two": two, "difference": float(difference)}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
