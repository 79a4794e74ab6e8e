"""The script of a job, which runs without danlu, comes to the numbers that the job came to."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data_store import arrays, catalog, folder
from models_store import architectures, script, zoo
from models_store import recipe as recipes
from models_store.arguments import LOSSES, OPTIMIZERS, SCHEDULERS
from models_store.recipe import Recipe, SubmittedRecipe
from workers import losses, pretraining, training
from workers.split import split
from workers.training import EpochEnd, Run

OURS = {"app", "danlu", "data_store", "database", "images", "models_store", "problems", "workers"}
PRINTED = re.compile(r"^(Train|Validation|Test) Average Loss:(\S+), Accuracy:(\S+)$", re.MULTILINE)

LAYERS = {
    "layers": [
        {"type": "Conv2d", "out_channels": 4, "kernel_size": 3, "padding": 1},
        {"type": "BatchNorm2d"},
        {
            "type": "Residual",
            "layers": [{"type": "Conv2d", "out_channels": 4, "kernel_size": 3, "padding": 1}],
        },
        {"type": "ReLU"},
        {"type": "AdaptiveAvgPool2d", "output_size": 3},
        {"type": "Flatten"},
        {"type": "Linear"},
    ]
}


# Where gradients are as good as zero, as before a BatchNorm, some optimizers follow rounding errors.
STEADY = {"layers": [one for one in LAYERS["layers"] if one["type"] != "BatchNorm2d"]}


def write_images(
    root: Path, *parts: str, count: int = 9, side: int = 12, noise: int = 120, seed: int = 0
) -> None:
    """`shapes`: the left, the upper or no half is bright, and there is noise."""
    chance = np.random.default_rng(seed)
    for part in parts:
        for label, name in enumerate(("left", "plain", "upper")):
            (root / "shapes" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = chance.integers(0, noise, (side, side, 3))
                pixels[:, : side // 2] += 100 * (label == 0)
                pixels[: side // 2] += 100 * (label == 2)
                file = root / "shapes" / part / name / f"{number:02}.png"
                Image.fromarray(pixels.astype(np.uint8)).save(file)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("datasets")
    write_images(root, "train", "val")
    return root


def resolve(root: Path, **given: Any) -> Recipe:
    """A recipe without chance but that of the first weights."""
    asked = {
        "dataset": "shapes",
        "architecture": LAYERS,
        "image_size": 12,
        "epochs": 3,
        "batch_size": 5,
        "optimizer": {"name": "SGD", "lr": 0.05},
        "scheduler": None,
        "transforms": {"train": []},
        "data_loader": {"shuffle": False},
        "precision": "fp32",
        "device": "cpu",
        "seed": 3,
        **given,
    }
    submitted = SubmittedRecipe.model_validate(asked)
    return recipes.resolve(submitted, catalog.facts(str(asked["dataset"]), root))


def known_of(recipe: Recipe, root: Path, **given: Any) -> script.Known:
    facts = catalog.facts(recipe.dataset, root)
    described = {
        "source": script.Folder(folder.places(root / recipe.dataset)),
        "classes": facts.classes,
        "counts": facts.counts,
        "height": facts.height,
        "width": facts.width,
        "channels": facts.channels,
        "normalize": recipe.normalize,
    }
    return script.Known(job="job_1", recipe=recipe, **(described | given))


def by_danlu(recipe: Recipe, root: Path, weights: Path | None = None) -> list[float]:
    """Loss and accuracy of the validation images after each epoch."""
    data = arrays.load(
        recipe.dataset,
        root=root,
        cache=root / "cache",
        size=recipe.size,
        channels=recipe.channels,
        progress=lambda *_: None,
    )
    device = torch.device("cpu")
    parts = split(data, recipe, device)
    labels = parts.train.labels[parts.train.index]
    classes = len(data.classes)
    run = Run(
        device=device,
        precision="fp32",
        normalize=recipe.normalize,
        stopped=lambda: False,
        transforms=recipe.transforms.shaping,
        classes=classes,
        loss=losses.build(recipe.loss, recipe.class_weights, labels, classes=classes),
    )
    plan = architectures.plan(
        recipe.architecture, channels=recipe.channels, size=recipe.input_size, classes=classes
    )
    torch.manual_seed(recipe.seed)
    network = architectures.build(plan)
    per_epoch = training.steps_per_epoch(
        len(labels), recipe, least=training.smallest_batch(network)
    )
    begun = training.begin(network, recipe, run, steps=per_epoch * recipe.epochs)
    if weights is not None:
        pretraining.load(network, recipe, weights)
    found = training.fit(begun, parts.train, parts.validation, recipe=recipe, run=run)
    ends = [event for event in found if isinstance(event, EpochEnd)]
    return [number for end in ends for number in (end.validation.loss, end.validation.accuracy)]


@pytest.fixture
def by_script(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[float]]:
    """The same of the script, in this process: torch is there already."""

    def by_script(known: script.Known, data: Path) -> list[float]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["train.py", str(data)])
        text = script.write(known)
        capsys.readouterr()
        exec(compile(text, "train.py", "exec"), {"__name__": "__main__"})
        printed = PRINTED.findall(capsys.readouterr().out)
        return [float(n) for part, *numbers in printed if part == "Validation" for n in numbers]

    return by_script


SCHEDULES: dict[str, dict[str, Any]] = {
    "StepLR": {"step_size": 2, "gamma": 0.3},
    "MultiStepLR": {"milestones": [1, 2], "gamma": 0.3},
    "ExponentialLR": {"gamma": 0.5},
    "ReduceLROnPlateau": {"patience": 0, "factor": 0.2, "threshold": 0.5},
    "OneCycleLR": {"max_lr": 0.1},
}

SAME: dict[str, dict[str, Any]] = {
    **{name: {"optimizer": {"name": name}, "architecture": STEADY} for name in OPTIMIZERS},
    **{name: {"scheduler": {"name": name, **SCHEDULES.get(name, {})}} for name in SCHEDULERS},
    **{
        f"{name} after a warm-up, by step": {
            "scheduler": {"name": name, **SCHEDULES[name], "interval": "step", "warmup_epochs": 0.7}
        }
        for name in ("StepLR", "OneCycleLR")
    },
    "a warm-up of an epoch": {
        "scheduler": {"name": "CosineAnnealingLR", "warmup_epochs": 1.0, "interval": "epoch"}
    },
    "a plateau of the accuracy": {
        "scheduler": {**SCHEDULES["ReduceLROnPlateau"], "name": "ReduceLROnPlateau"}
        | {"metric": "val_accuracy", "mode": "max"}
    },
    "a rise of one step": {"scheduler": {"name": "OneCycleLR", "pct_start": 1 / 18}},
    "Muon in a cycle": {
        "optimizer": {"name": "Muon", "lr": 0.02, "adamw": {"lr": 0.002}},
        "scheduler": {"name": "OneCycleLR"},
    },
    "many arguments": {
        "optimizer": {"name": "SGD", "lr": 0.02, "momentum": 0.9, "nesterov": True},
    },
    **{name: {"loss": name} for name in LOSSES},
    "sum": {"loss": {"name": "MSELoss", "reduction": "sum"}, "optimizer": {"lr": 0.002}},
    "smoothed": {"loss": {"label_smoothing": 0.2}},
    "ignored": {"loss": {"ignore_index": 1}},
    "weights": {"class_weights": [1.0, 2.0, 0.5]},
    "weights of the loss": {"loss": {"weight": [1.0, 2.0, 0.5]}},
    "balanced": {"class_weights": "balanced"},
    "clipped": {"clip_grad_norm": 0.1},
    "accumulated": {"grad_accumulation": 2, "batch_size": 3},
    "accumulated sums": {
        "grad_accumulation": 2, "batch_size": 3, "optimizer": {"lr": 0.002},
        "loss": {"reduction": "sum"}, "clip_grad_norm": 1.0,
    },
    "stopped early": {
        "epochs": 9, "early_stopping": {"patience": 2, "min_delta": 0.4},
    },
    "stopped by accuracy": {
        "epochs": 9, "early_stopping": {"patience": 2, "metric": "val_accuracy"},
    },
    "normalized": {"normalize": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}},
    "grey": {"channels": 1},
    "smaller": {"image_size": [10, 8]},
    "cut": {"transforms": {"train": [{"type": "Resize", "size": 16},
                                     {"type": "CenterCrop", "size": [10, 9]}]}},
    "grey again": {"transforms": {"train": [{"type": "Grayscale", "num_output_channels": 3}]}},
    "last batch dropped": {"data_loader": {"shuffle": False, "drop_last": True}},
    **{
        name: {"architecture": name, "image_size": 28}
        for name in ("mnist_net", "cifar10_net", "lenet5", "resnet_small")
    },
}  # fmt: skip


@pytest.mark.parametrize("given", SAME.values(), ids=SAME)
def test_a_script_without_chance_comes_to_the_same_numbers(
    by_script: Callable[..., list[float]], shapes: Path, given: dict[str, Any]
) -> None:
    recipe = resolve(shapes, **given)

    wanted = by_danlu(recipe, shapes)

    found = by_script(known_of(recipe, shapes), shapes / "shapes")
    assert found == pytest.approx(wanted, abs=2e-3)
