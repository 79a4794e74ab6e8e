"""The script of a job, which runs without danlu, comes to the numbers that the job came to."""

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
from torchvision import models

from data_store import arrays, catalog, folder
from data_store.built_in import SETS
from models_store import architectures, heads, script, zoo
from models_store import recipe as recipes
from models_store.arguments import LOSSES, OPTIMIZERS, SCHEDULERS
from models_store.pipeline import TRAIN
from models_store.recipe import Recipe, SubmittedRecipe
from models_store.script import network
from tests.conftest import Service
from workers import losses, training, whitened
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


# Where gradients are as good as zero, as before a BatchNorm, some optimizers follow rounding
# errors.
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


def by_danlu(recipe: Recipe, root: Path) -> list[float]:
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
    built = architectures.build(plan)
    whitened.begin(built, plan, parts.train, run)
    per_epoch = training.steps_per_epoch(len(labels), recipe, least=training.smallest_batch(built))
    begun = training.begin(built, recipe, run, steps=per_epoch * recipe.epochs)
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
        for part in (torch.backends.cuda.matmul, torch.backends.cudnn.conv):
            # What it sets of these is the whole process's, and no later test's.
            monkeypatch.setattr(part, "fp32_precision", part.fp32_precision)
        text = script.write(known)
        capsys.readouterr()
        written: dict[str, Any] = {"__name__": "__main__"}
        try:
            exec(compile(text, "train.py", "exec"), written)
        finally:
            # Its loaders go now: found by a collection of garbage, when their queues have ended,
            # each would wait 5 s for processes that nobody tells to end.
            written.clear()
        printed = PRINTED.findall(capsys.readouterr().out)
        return [float(n) for part, *numbers in printed if part == "Validation" for n in numbers]

    return by_script


_ARGUMENTS: dict[str, dict[str, Any]] = {
    "Resize": {"size": 14},
    "CenterCrop": {"size": [10, 11]},
    "RandomRotation": {"degrees": 20},
    "ColorJitter": {"brightness": 0.2, "contrast": [0.5, 1], "saturation": 0.3, "hue": 0.1},
    "Grayscale": {"num_output_channels": 3},
    "Normalize": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
}

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
    "a rise of one epoch after a warm-up": {
        "scheduler": {
            "name": "OneCycleLR", "pct_start": 0.5, "interval": "epoch", "warmup_epochs": 1
        }
    },
    "Muon in a cycle": {
        "optimizer": {"name": "Muon", "lr": 0.02, "adamw": {"lr": 0.002}},
        "scheduler": {"name": "OneCycleLR"},
    },
    "many arguments": {
        "optimizer": {"name": "SGD", "lr": 0.02, "momentum": 0.9, "nesterov": True},
    },
    **{name: {"loss": name} for name in LOSSES},
    "sum": {
        "loss": {"name": "MSELoss", "reduction": "sum"}, "optimizer": {"lr": 0.002},
        "architecture": STEADY,
    },
    "smoothed": {"loss": {"label_smoothing": 0.2}},
    "ignored": {"loss": {"ignore_index": 1}},
    "weights": {"class_weights": [1.0, 2.0, 0.5]},
    "weights of the loss": {"loss": {"weight": [1.0, 2.0, 0.5]}},
    "balanced": {"class_weights": "balanced"},
    "a class without weight": {"class_weights": [1.0, 0.0, 3.0]},
    "clipped": {"clip_grad_norm": 0.1},
    "accumulated": {"grad_accumulation": 2, "batch_size": 3},
    "accumulated unevenly": {
        "grad_accumulation": 4, "batch_size": 5, "class_weights": [1.0, 4.0, 0.2],
    },
    "accumulated weights": {
        "grad_accumulation": 2, "class_weights": [1.0, 0.0, 10.0], "loss": {"ignore_index": 2},
    },
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
    "crops and flips": {"transforms": {"train": [
        {"type": "RandomCrop", "padding": [1, 2], "fill": [10, 200, 30]},
        {"type": "RandomHorizontalFlip"}, {"type": "RandomVerticalFlip", "p": 0.3},
    ]}, "normalize": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}},
    "other crops": {"transforms": {"train": [
        {"type": "RandomCrop", "size": 10}, {"type": "RandomHorizontalFlip"},
        {"type": "RandomCrop", "padding": 2, "padding_mode": "reflect"},
    ]}, "data_loader": {"shuffle": True}},
    "shuffled": {"data_loader": {"shuffle": True}},
    "a fraction held out": {"validation": 0.3, "class_weights": "balanced"},
    "a test held out beside val": {"test": 0.2},
    "split in three, and shuffled": {
        "validation": 0.3, "test": 0.2, "data_loader": {"shuffle": True}
    },
    **{
        name: {"architecture": name, "image_size": 28, "epochs": 1}
        for name in ("mnist_net", "cifar10_net", "lenet5", "resnet_small")
    },
    "a whitened network": {"architecture": "cifar10_fast", "image_size": 32, "epochs": 1},
}  # fmt: skip


@pytest.mark.parametrize("given", SAME.values(), ids=SAME)
def test_a_script_without_chance_comes_to_the_same_numbers(
    by_script: Callable[..., list[float]], shapes: Path, given: dict[str, Any]
) -> None:
    recipe = resolve(shapes, **given)

    wanted = by_danlu(recipe, shapes)

    found = by_script(known_of(recipe, shapes), shapes / "shapes")
    assert found == pytest.approx(wanted, abs=2e-3)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """`shapes`, brighter on the left or in the upper half, in files that need more than opening."""
    chance = np.random.default_rng(0)
    turned = Image.Exif()
    turned[0x0112] = 6  # to the right
    for part in ("train", "val"):
        for label, name in enumerate(("left", "upper")):
            folder = tmp_path / "photos" / "shapes" / part / name
            folder.mkdir(parents=True)
            for number in range(6):
                pixels = chance.integers(0, 150, (67, 131, 3))
                pixels[(slice(None), slice(65)) if label == 0 else slice(33)] += 100
                picture = Image.fromarray(pixels.astype(np.uint8))
                picture.save(folder / f"{number}.jpg", quality=95)
                picture.save(folder / f"{number} turned.jpg", quality=95, exif=turned)
                picture.save(folder / f"{number} turned.png", exif=turned)
                deep = pixels[..., 0].astype(np.uint16) * 257
                Image.fromarray(deep).save(folder / f"{number} deep.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("size", [12, [14, 10]])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_script_sees_the_pixels_that_its_job_sees(
    by_script: Callable[..., list[float]], photos: Path, size: int | list[int], channels: int
) -> None:
    recipe = resolve(photos, image_size=size, channels=channels, epochs=2)

    wanted = by_danlu(recipe, photos)

    found = by_script(known_of(recipe, photos), photos / "shapes")
    assert found == pytest.approx(wanted, abs=1e-5)


def test_what_is_held_out_is_judged_without_chance(
    by_script: Callable[..., list[float]], shapes: Path
) -> None:
    flips = [{"type": "RandomHorizontalFlip"}]
    recipe = resolve(shapes, validation=0.3, transforms={"train": flips}, optimizer={"lr": 1e-9})

    wanted = by_danlu(recipe, shapes)

    found = by_script(known_of(recipe, shapes), shapes / "shapes")
    assert found == pytest.approx(wanted, abs=2e-3)


def test_a_whitened_network_keeps_what_it_began_with(
    by_script: Callable[..., list[float]], shapes: Path, tmp_path: Path
) -> None:
    moved = [{"type": "RandomCrop", "padding": 2}, {"type": "RandomHorizontalFlip"}]
    normalize = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}
    asked = {"architecture": "cifar10_fast", "image_size": 32, "epochs": 1, "normalize": normalize}
    recipe = resolve(shapes, **asked, transforms={"train": moved})

    by_script(known_of(recipe, shapes), shapes / "shapes")

    saved = torch.load(tmp_path / "best.pth", weights_only=True)
    filters = saved["model.0.weight"]
    assert torch.equal(filters[12:], -filters[:12])
    assert torch.equal(saved["model.4.weight"], torch.ones(64))


CHANCE: dict[str, list[dict[str, Any]]] = {
    **{name: [{"type": name, **_ARGUMENTS.get(name, {})}] for name in TRAIN},
    "crops and flips": [
        {"type": "RandomCrop", "padding": [1, 2], "fill": [1, 2, 3]},
        {"type": "RandomHorizontalFlip"},
        {"type": "Normalize", "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
        {"type": "RandomErasing", "value": "random"},
        {"type": "MixUp"},
        {"type": "CutMix", "alpha": 0.5},
    ],
    "erased before the rest": [
        {"type": "RandomErasing", "value": 0.5},
        {"type": "RandomRotation", "degrees": [5, 9], "fill": 128, "interpolation": "bilinear"},
        {"type": "RandomErasing", "value": "random"},
        {"type": "AutoAugment", "policy": "cifar10"},
    ],
    "sizes": [
        {"type": "Resize", "size": [20, 18], "interpolation": "nearest-exact"},
        {"type": "RandomResizedCrop", "size": 11, "interpolation": "bicubic", "scale": [0.5, 1]},
    ],
}


@pytest.mark.parametrize("train", CHANCE.values(), ids=CHANCE)
def test_every_transform_works(
    by_script: Callable[..., list[float]], shapes: Path, train: list[dict[str, Any]]
) -> None:
    recipe = resolve(shapes, transforms={"train": train}, epochs=1, batch_size=9)

    loss, accuracy = by_script(known_of(recipe, shapes), shapes / "shapes")

    assert 0 < loss < 10
    assert 0 <= accuracy <= 1


@pytest.mark.parametrize("precision", ["bf16", "fp16", "tf32"])
@pytest.mark.parametrize("steps", [1, 2])
def test_other_precisions_work(
    by_script: Callable[..., list[float]], shapes: Path, precision: Any, steps: int
) -> None:
    recipe = resolve(shapes, epochs=1, grad_accumulation=steps, clip_grad_norm=1.0, max_seconds=60)

    loss, _ = by_script(known_of(recipe, shapes, precision=precision), shapes / "shapes")

    assert loss == pytest.approx(by_danlu(recipe, shapes)[0], abs=0.1)


def test_a_deterministic_script_says_so_before_it_begins(shapes: Path) -> None:
    """In a process of its own: what it sets is the whole process's."""
    recipe = resolve(shapes, deterministic=True, epochs=1)
    text = script.write(known_of(recipe, shapes))
    seen = "print(torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark)"

    ran = subprocess.run(
        [sys.executable, "-c", f"{text}\n{seen}", str(shapes / "shapes")],
        cwd=shapes,
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout.endswith("True False\n")
    assert 'os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"' in text
    assert "deterministic" not in script.write(known_of(resolve(shapes), shapes))
    [printed] = [(loss, right) for part, loss, right in PRINTED.findall(ran.stdout)
                 if part == "Validation"]  # fmt: skip
    assert [float(one) for one in printed] == pytest.approx(by_danlu(recipe, shapes), abs=2e-3)


def test_a_run_ends_when_its_time_is_up(
    by_script: Callable[..., list[float]], shapes: Path
) -> None:
    recipe = resolve(shapes, epochs=50, max_seconds=1e-6)

    assert len(by_script(known_of(recipe, shapes), shapes / "shapes")) == 2


def test_a_last_batch_of_one_image_is_left_to_another_epoch(
    by_script: Callable[..., list[float]], shapes: Path
) -> None:
    layers = [{"type": "AdaptiveAvgPool2d", "output_size": 1}, {"type": "BatchNorm2d"}]
    layers += [{"type": "Flatten"}, {"type": "Linear"}]
    recipe = resolve(shapes, architecture={"layers": layers}, batch_size=13, epochs=1)

    assert 27 % recipe.batch_size == 1
    assert len(by_script(known_of(recipe, shapes), shapes / "shapes")) == 2


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """What is published for shufflenet_v2_x0_5: made up."""
    torch.manual_seed(0)
    weights: dict[str, torch.Tensor] = models.shufflenet_v2_x0_5(weights=None).state_dict()
    monkeypatch.setattr(models.WeightsEnum, "get_state_dict", lambda *_, **__: weights)
    return weights


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "given",
    [
        {"freeze_backbone": True},
        {"freeze_backbone": True, "head_lr": 0.1, "scheduler": {"name": "OneCycleLR"}},
        {"head_lr": 0.02, "optimizer": {"name": "Muon", "lr": 0.01}},
    ],
    ids=["frozen", "frozen, own rate", "own rate"],
)
def test_published_weights_under_a_new_head(
    by_script: Callable[..., list[float]],
    shapes: Path,
    tmp_path: Path,
    published: dict[str, torch.Tensor],
    given: dict[str, Any],
    channels: int,
) -> None:
    name = "shufflenet_v2_x0_5"
    settings = {"architecture": name, "pretrained": True, "image_size": 32, "epochs": 1}
    recipe = resolve(shapes, **settings, channels=channels, **given)

    by_script(known_of(recipe, shapes, pretrained=True), shapes / "shapes")

    saved = torch.load(tmp_path / "best.pth", weights_only=True)
    plan = architectures.plan(name, channels=channels, size=(32, 32), classes=3)
    ours = architectures.build(plan).state_dict()
    assert {k: v.shape for k, v in saved.items()} == {k: v.shape for k, v in ours.items()}
    kept = [k for k in saved if k not in zoo.head(name) and k != "conv1.0.weight"]
    assert all(torch.equal(saved[k], published[k]) for k in kept) == ("freeze_backbone" in given)


@pytest.mark.parametrize("new_head", [False, True])
@pytest.mark.parametrize("given", [{}, {"freeze_backbone": True, "head_lr": 0.1}])
@pytest.mark.parametrize("name", ["mnist_net", "shufflenet_v2_x0_5"])
def test_it_starts_from_a_checkpoint_beside_it(
    by_script: Callable[..., list[float]],
    shapes: Path,
    tmp_path: Path,
    given: dict[str, Any],
    new_head: bool,
    name: str,
) -> None:
    channels, side = (1, 12) if name == "mnist_net" else (3, 32)
    plan = architectures.plan(
        name, channels=channels, size=(side, side), classes=7 if new_head else 3
    )
    torch.manual_seed(9)
    theirs = architectures.build(plan)
    weights = theirs.state_dict()
    torch.save(weights, tmp_path / "init.pth")
    asked = {"architecture": name, "image_size": side, "channels": channels, "epochs": 1}
    head = heads.of(name, theirs)
    plain = resolve(shapes, **asked, optimizer={"name": "SGD", "lr": 0.0 if not given else 0.1})
    recipe = plain.model_copy(update={"init_from": "ckpt_1", **given})

    by_script(known_of(recipe, shapes, new_head=new_head), shapes / "shapes")

    saved = torch.load(tmp_path / "best.pth", weights_only=True)
    changed = {key for key, value in theirs.named_parameters() if not _same(saved[key], value)}
    assert changed == (head if given or new_head else set())
    text = script.write(known_of(recipe, shapes, new_head=new_head))
    assert "GET /checkpoints/ckpt_1/download?format=pt" in text


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


_FAMILIES = {zoo.family(name): name for name in reversed(zoo.names())}
# The least of a family whose widths cannot be computed without numbers.
_FAMILIES["regnet"] = "regnet_y_400mf"


@pytest.mark.parametrize(
    ("name", "pretrained"),
    [
        *((name, True) for name in _FAMILIES.values()),
        # Those that must be told something besides, and one for all others.
        *((name, False) for name in ("googlenet", "maxvit_t", "vit_b_16", "alexnet")),
    ],
)
def test_every_family_is_built_as_danlu_builds_it(
    shapes: Path, monkeypatch: pytest.MonkeyPatch, name: str, pretrained: bool
) -> None:
    side = 2 * zoo.native_size(name) if name.startswith("vit") else zoo.native_size(name)
    recipe = resolve(shapes, architecture=name, image_size=side, channels=1 + 2 * pretrained)
    plan = architectures.plan(name, channels=recipe.channels, size=(side, side), classes=3)
    known = known_of(recipe, shapes, pretrained=pretrained)
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        whole = models.get_model(name, weights=None, **_whole(name))
        weights = whole.state_dict()
        monkeypatch.setattr(models.WeightsEnum, "get_state_dict", lambda *_, **__: weights)

        written: dict[str, Any] = {"models": models, "nn": torch.nn, "NUM_CLASSES": 3}
        exec("\n".join(network.building(plan, known)), written)

    built = {key: value.shape for key, value in written["model"].state_dict().items()}
    wanted = {key: value.shape for key, value in architectures.outline(plan).state_dict().items()}
    assert built == wanted


def _whole(name: str) -> dict[str, Any]:
    """Published weights of these have outputs on the way."""
    aux = name in ("googlenet", "inception_v3")
    return {"aux_logits": True, "init_weights": False} if aux else {}


@pytest.mark.parametrize("name", SETS)
def test_scripts_of_all_kinds_are_tidy(shapes: Path, tmp_path: Path, name: str) -> None:
    """As ruff sees it, and they import nothing but torch, torchvision and what comes with them."""
    texts = [script.write(of_set(name))]
    if name == "digits":  # once
        texts += [script.write(known_of(resolve(shapes, **one), shapes)) for one in SAME.values()]
        texts += [
            script.write(known_of(resolve(shapes, transforms={"train": one}), shapes))
            for one in CHANCE.values()
        ]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.py").write_text(text, encoding="utf-8")
        modules = set(re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE))
        allowed = {"math", "sys", "time", "pathlib", "torch", "torchvision", "PIL", "numpy"}
        assert modules <= allowed | ({"sklearn"} if name == "digits" else set())
        assert "danlu" not in re.sub(r"(?m)^ *#.*|\"\"\"[\s\S]*?\"\"\"", "", text)
    ruff = [sys.executable, "-m", "ruff"]
    plain = ["--isolated", "--line-length", "100"]
    rules = "E,W,F,I,B,UP,C4,SIM,RET,N,RUF,PIE"
    checked = subprocess.run(
        [*ruff, "check", *plain, "--target-version", "py311", "--select", rules, str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout
    formatted = subprocess.run(
        [*ruff, "format", "--diff", *plain, str(tmp_path)], capture_output=True, text=True
    )
    assert formatted.returncode == 0, formatted.stdout


def of_set(name: str) -> script.Known:
    """What is known of a built-in set trained as danlu does by default."""
    facts = catalog.facts(name, Path("/nowhere"))
    recipe = recipes.resolve(SubmittedRecipe(dataset=name, seed=1), facts)
    return script.Known(
        job="job_1",
        recipe=recipe,
        source=script.BuiltIn(SETS[name].reader),
        classes=facts.classes,
        counts=facts.counts,
        height=facts.height,
        width=facts.width,
        channels=facts.channels,
    )


def test_a_folder_that_image_folder_would_not_take_as_it_is(
    by_script: Callable[..., list[float]], tmp_path: Path
) -> None:
    """Animals that nobody can read, hidden ones, GIFs, transparency, photos lying on their side."""
    root = tmp_path / "datasets"
    write_images(root, "Training", "valid", count=5)
    left = root / "shapes" / "Training" / "left"
    (left / "notes.txt").write_text("no image")
    (left / "broken.png").write_bytes(b"no image")
    (left / "._00.png").write_bytes(b"of macOS")
    (root / "shapes" / "Training" / "__MACOSX").mkdir()
    Image.new("RGBA", (30, 20), (10, 20, 30, 0)).save(left / "glass.png")
    Image.new("P", (30, 20)).save(left / "old.gif")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (300, 200), "red").save(left / "side.jpg", exif=turned)
    assert not folder.is_image_folder(root / "shapes")
    recipe = resolve(root, epochs=1)
    source = script.Folder(folder.places(root / "shapes"), unusual=True)

    assert len(by_script(known_of(recipe, root, source=source), root / "shapes")) == 2


ALONE = """
import runpy, sys
sys.argv = ["train.py", *sys.argv[1:]]
runpy.run_path("train.py", run_name="__main__")
print("OURS", sorted(name for name in sys.modules if name.partition(".")[0] in {ours}))
"""


def run_alone(text: str, data: Path, place: Path) -> str:
    """What a script prints in a process of its own that danlu is not part of."""
    place.mkdir()
    (place / "train.py").write_text(text, encoding="utf-8")
    (place / "alone.py").write_text(ALONE.replace("{ours}", repr(sorted(OURS))), encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-I", "alone.py", str(data)],
        cwd=place,
        capture_output=True,
        text=True,
        env={"PATH": "", "OMP_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    assert "OURS []" in ran.stdout
    assert not ran.stderr
    return ran.stdout


def write_mnist(root: Path) -> None:
    """Two brightnesses of ten in torchvision's own files of MNIST; 200 and 100 images."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    chance = np.random.default_rng(0)
    for part, count in (("train", 200), ("t10k", 100)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = chance.integers(0, 40, (count, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 + 2 * label : 6 + 2 * label] += 180
        head = np.array([0x801, count], ">i4").tobytes()
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())
        head = np.array([0x803, count, 28, 28], ">i4").tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())


KINDS: dict[str, dict[str, Any]] = {
    "own layers": {
        "dataset": "shapes", "architecture": LAYERS, "epochs": 12, "image_size": 12,
        "optimizer": {"name": "Adam", "lr": 0.01}, "normalize": "auto", "validation": 0.2,
        "transforms": {"train": [{"type": "RandomCrop", "padding": 1}]}, "batch_size": 8,
    },
    "zoo": {
        "dataset": "shapes", "architecture": "shufflenet_v2_x0_5", "epochs": 10, "image_size": 32,
        "optimizer": {"name": "Adam", "lr": 0.01}, "batch_size": 12, "transforms": {"train": []},
        "validation": 0.2,
    },
    "notes": {
        "recipe": "notes-mnist", "epochs": 8, "batch_size": 8,
        "optimizer": {"name": "SGD", "lr": 0.05},
    },
}  # fmt: skip


@pytest.mark.parametrize("given", KINDS.values(), ids=KINDS)
def test_alone_it_ends_within_a_point_of_the_job(
    service: Service, tmp_path: Path, given: dict[str, Any]
) -> None:
    data = service.datasets
    if not (data / "shapes").exists():
        write_images(data, "train", "test", count=40, noise=60)
    if not (data / "MNIST").exists():
        write_mnist(data)
    job = service.client.train({"seed": 0, **given})
    ended = service.client.wait(job["id"], timeout_seconds=100)
    assert ended["state"] == "succeeded", ended["error"]

    text = service.client.script(job["id"])

    assert str(data) not in text
    printed = run_alone(text, data if "recipe" in given else data / "shapes", tmp_path / "alone")
    accuracy = float(PRINTED.findall(printed)[-1][2])
    assert accuracy == pytest.approx(ended["metrics"]["test_accuracy"], abs=0.01)
    assert accuracy > 0.9
