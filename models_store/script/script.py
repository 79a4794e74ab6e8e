"""The whole script: what it begins with, and the order of its parts.

Each part writes only what this job uses.
"""

import re

from models_store.architectures import Plan
from models_store.layers import label
from models_store.script import data, learning, loop, network
from models_store.script.code import INDENT, Lines, Raw, call, indented, statement
from models_store.script.known import BuiltIn, Known
from models_store.script.transforms import changes_batches, mixing, transforms
from models_store.script.transforms import definitions as changes

# What a script may import, in the order of imports, and the words that tell that it must.
_IMPORTS = (
    (r"\bmath\.", "import math"),
    (r"\bos\.", "import os"),
    (r"\bsys\.", "import sys"),
    (r"\btime\.", "import time"),
    (r"\bPath\(", "from pathlib import Path"),
    ("", ""),
    (r"\bnp\.", "import numpy as np"),
    ("", "import torch"),
    (r"\bImageOps\.", "from PIL import Image, ImageOps"),
    (r"\bImage\.fromarray", "from PIL import Image"),
    (r"\bload_digits\(", "from sklearn.datasets import load_digits"),
    (r"\bnn\.", "from torch import nn"),
)
_LOADERS = ("DataLoader", "Dataset", "Sampler", "Subset")
_VISION = ("datasets", "models", "transforms")

_ONE_HOT = '''\
def one_hot(labels):
    """A 1 for the class of each image, and 0 for all others: what the outputs should be."""
    return nn.functional.one_hot(labels, NUM_CLASSES).float()
'''


def write(known: Known) -> str:
    """The text of the script. Raises what `architectures.plan` raises."""
    plan = network.planned(known)
    blocks = [
        _constants(known),
        *data.definitions(known),
        *changes(known),
        *network.classes(plan),
        *learning.definitions(known, plan),
        *([_ONE_HOT.splitlines()] if learning.takes_shares(known) else []),
        loop.train_model(
            known, frozen_norm=known.recipe.freeze_backbone and plan.normalises_batches
        ),
        loop.test_model(known),
        ['if __name__ == "__main__":', *indented(_main(known, plan))],
    ]
    # Functions and classes stand two lines apart.
    body = "\n\n\n".join("\n".join(block) for block in blocks)
    return f"{_heading(known)}\n\n{_imports(body)}\n\n{body}\n"


def _heading(known: Known) -> str:
    needs = "torch and torchvision"
    if known.source == BuiltIn(None):
        needs += ", and scikit-learn for its handwritten digits"
    shape = "x".join(map(str, (known.recipe.channels, *known.recipe.input_size)))
    runs = "python train.py"
    if known.source != BuiltIn(None):
        runs += " FOLDER_OF_THE_DATA"
    return "\n".join(
        [
            f'"""{known.job} of danlu as one plain PyTorch file.',
            "",
            f"Network: {label(known.recipe.architecture)}, for {shape} images.",
            f"Run it with: {runs}",
            f"Needs {needs}.",
            '"""',
        ]
    )


def _imports(body: str) -> str:
    found = [line for sign, line in _IMPORTS if re.search(sign, body)]
    if "from PIL import Image, ImageOps" in found and "from PIL import Image" in found:
        found.remove("from PIL import Image")
    used = [name for name in _LOADERS if re.search(rf"\b{name}\(|\({name}\)", body)]
    found.append(f"from torch.utils.data import {', '.join(used)}")
    if vision := [name for name in _VISION if re.search(rf"(?<!sklearn\.)\b{name}\.", body)]:
        found.append(f"from torchvision import {', '.join(vision)}")
    found.append("from torchvision.transforms import v2")
    return "\n".join(found).lstrip("\n")


def _constants(known: Known) -> Lines:
    recipe = known.recipe
    lines = [
        *data.constants(known),
        f"EPOCHS = {recipe.epochs}",
        f"BATCH_SIZE = {recipe.batch_size}",
        f"SEED = {recipe.seed}",
    ]
    if recipe.devices > 1:
        lines[-2] += f"  # shared by {recipe.devices} devices there; here one has all of it"
    if recipe.grad_accumulation > 1:
        lines.append(f"ACCUMULATION = {recipe.grad_accumulation}  # batches for each step")
    if recipe.clip_grad_norm is not None:
        lines.append(f"CLIP_GRAD_NORM = {recipe.clip_grad_norm}")
    if recipe.max_seconds is not None:
        lines.append(f"MAX_SECONDS = {recipe.max_seconds}")
    if recipe.early_stopping is not None:
        lines.append(f"PATIENCE = {recipe.early_stopping.patience}  # epochs without a better one")
    return lines


def _main(known: Known, plan: Plan) -> Lines:
    return [
        *_device(known),
        "",
        "# Data",
        *transforms(known),
        *data.loading(known, normalises_batches=plan.normalises_batches),
        "",
        "# Network. The seed decides the weights that it begins with.",
        "torch.manual_seed(SEED)",
        *network.building(plan, known),
        "model.to(device, memory_format=torch.channels_last)",
        *(["model.compile()  # takes seconds, at the first batch"] if known.recipe.compile else []),
        "",
        "# How it learns",
        *(["chance = torch.Generator(device).manual_seed(SEED)"] if changes_batches(known) else []),
        *mixing(known),
        *learning.loss(known),
        *learning.optimizer(known, plan),
        *learning.schedule(known),
        *(["scaler = torch.amp.GradScaler(device.type)"] if known.precision == "fp16" else []),
        "",
        *_epochs(known),
        *_end(known),
    ]


_REPEATABLE = [
    "# The same bits each time, where the machine and its threads are the same.",
    'os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read when CUDA starts',
    "torch.use_deterministic_algorithms(True)",
    "torch.backends.cudnn.deterministic = True",
    "torch.backends.cudnn.benchmark = False",
]


def _device(known: Known) -> Lines:
    asked = known.recipe.device
    lines = [f'device = torch.device("{asked}")']
    if asked in ("auto", "cuda"):
        lines = ['device = torch.device("cuda" if torch.cuda.is_available() else "cpu")']
    if known.precision == "tf32":
        lines += [
            'torch.backends.cuda.matmul.fp32_precision = "tf32"',
            'torch.backends.cudnn.conv.fp32_precision = "tf32"',
        ]
    if known.recipe.deterministic:
        lines += _REPEATABLE
    return lines


def _judged(known: Known) -> tuple[str, str]:
    """The loader that chooses the best epoch, and what its images are called."""
    on_test = known.recipe.validation == "test"
    return ("test_loader", "Test") if on_test else ("val_loader", "Validation")


def _epochs(known: Known) -> Lines:
    """The run, of which the best network is saved."""
    recipe = known.recipe
    loader, name = _judged(known)
    given = ["model", "device", "train_loader", "loss_fn", "optimizer", "epoch"]
    training = call("train_model", *map(Raw, [*given, *loop.arguments(known)]))
    return [
        *(["ends_at = time.monotonic() + MAX_SECONDS"] if recipe.max_seconds is not None else []),
        *(_BEGIN_WAITING if recipe.early_stopping else []),
        "best = -1.0, 0.0",
        "for epoch in range(1, EPOCHS + 1):",
        *indented(
            [
                'print(f"Epoch {epoch} of {EPOCHS}")',
                *statement("", training),
                f'loss, accuracy = test_model(model, device, {loader}, loss_fn, "{name}")',
                "if (accuracy, -loss) > best:",
                f"{INDENT}best = accuracy, -loss",
                f'{INDENT}torch.save(model.state_dict(), "best.pth")',
                *_after_epoch(known),
            ]
        ),
    ]


_BEGIN_WAITING = ["least, waited = None, 0"]


def _after_epoch(known: Known) -> Lines:
    recipe, lines = known.recipe, []
    scheduler = recipe.scheduler
    if scheduler is not None and not learning.by_step(known):
        metric = scheduler.get("metric")
        seen = "" if metric is None else "loss" if metric == "val_loss" else "accuracy"
        moving = f"scheduler.step({seen})"
        if learning.warms_up(known):
            lines += ["if warm_up.is_over():", f"{INDENT}{moving}"]
        else:
            lines.append(moving)
    if recipe.max_seconds is not None:
        lines += ["if time.monotonic() > ends_at:", f"{INDENT}break"]
    if (stopping := recipe.early_stopping) is not None:
        # What falls is better, so an accuracy is looked at upside down.
        value = "loss" if stopping.metric == "val_loss" else "-accuracy"
        margin = f" - {stopping.min_delta}" if stopping.min_delta else ""
        lines += [
            f"if least is None or {value} < least{margin}:",
            f"{INDENT}least, waited = {value}, 0",
            "else:",
            f"{INDENT}waited += 1",
            "if waited >= PATIENCE:",
            f'{INDENT}print(f"No better for {{waited}} epochs.")',
            f"{INDENT}break",
        ]
    return lines


def _end(known: Known) -> Lines:
    if not known.judged_at_the_end:
        return ['print(f"Best Accuracy:{best[0]:.4f}")']
    return [
        "",
        "# The best network, on images that have chosen nothing.",
        'model.load_state_dict(torch.load("best.pth", weights_only=True))',
        'test_model(model, device, test_loader, loss_fn, "Test")',
    ]
