"""What does not go together in a recipe: fields with each other, and with the data set.

Each check raises `Problem` with the place of the field to change: invalid_request, dataset_invalid
where images are missing. Knows neither torch nor networks.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from models_store.fields import Device, Precision, Recipe
from models_store.losses import NO_LABEL
from problems import Problem

# PyTorch's optimizers without a momentum that OneCycleLR could cycle.
_WITHOUT_MOMENTUM = frozenset({"Adadelta", "Adafactor", "Adagrad", "ASGD", "Rprop"})
NEED_CUDA = frozenset({"tf32", "fp16"})
"""Precisions that no other kind of device computes in."""
# Transforms that make two labels of one.
_MIXING = frozenset({"MixUp", "CutMix"})


def trained(recipe: Recipe, images: int) -> int:
    """How many of the training part's `images` are trained on, what is held out being left out."""
    return images - sum(_held_out(share, images) for share in (recipe.validation, recipe.test))


def updates_per_epoch(recipe: Recipe, images: int) -> int:
    """Steps of the optimizer in an epoch of `images` images."""
    rounded = math.floor if recipe.data_loader.drop_last else math.ceil
    return math.ceil(rounded(images / recipe.batch_size) / recipe.grad_accumulation)


def moves(recipe: Recipe, images: int) -> int:
    """How often a scheduler moves after its warm-up, in a run over `images` images an epoch."""
    scheduler: Mapping[str, Any] = recipe.scheduler or {}
    updates = updates_per_epoch(recipe, images)
    warmup: int = round(scheduler.get("warmup_epochs", 0.0) * updates)
    if scheduler.get("interval") == "epoch":
        return recipe.epochs - warmup // updates
    return recipe.epochs * updates - warmup


def mixing(recipe: Recipe) -> str | None:
    """The transform that makes two labels of one, if there is any."""
    return next((t.type for t in recipe.transforms.train if t.type in _MIXING), None)


def check_parts(recipe: Recipe, counts: Mapping[str, int], *, name: str, classes: int) -> None:
    """That there is something to train, to validate and to judge on, of parts of these sizes; the
    training part has an image of each class.
    """
    if isinstance(recipe.validation, str) and not counts.get(recipe.validation):
        raise invalid(
            ["validation"],
            f"{name} has no {recipe.validation} part.",
            "Give a fraction, such as 0.1.",
        )
    if recipe.test is not None and counts.get("test"):
        raise invalid(
            ["test"],
            f"{name} has a test part of its own.",
            "Leave test out: that part judges the best checkpoint.",
        )
    kept = trained(recipe, counts["train"])
    if kept < 1:
        where = "validation" if recipe.test is None else "test"
        raise invalid(
            [where],
            f"No image of {counts['train']} is left to train on.",
            "Add images, or give a smaller fraction.",
        )
    _check_held_out(recipe, counts, name=name, classes=classes)
    if recipe.data_loader.drop_last and recipe.batch_size > kept:
        raise invalid(
            ["batch_size"],
            f"drop_last leaves no batch of {recipe.batch_size}: there are {kept} training images.",
            "Give a smaller batch_size, or drop_last: false.",
        )


def _check_held_out(recipe: Recipe, counts: Mapping[str, int], *, name: str, classes: int) -> None:
    """That an image can be held out for each fraction. The test part takes first."""
    images = counts["train"]
    spare = images - classes  # no class gives its last image
    for field in ("test", "validation"):
        held_out = _held_out(getattr(recipe, field), images)
        if held_out and spare < 1:
            message = (
                f"{name} has too few training images to hold some out for {field}: {images} of "
                f"{classes} classes, each of which keeps one."
            )
            raise Problem(
                "dataset_invalid",
                message,
                hint=f"Add images, or {_spared(recipe, counts)}.",
                errors=[{"loc": ["body", field], "msg": message}],
            )
        spare -= held_out


def _spared(recipe: Recipe, counts: Mapping[str, int]) -> str:
    """What to do where no image can be held out."""
    if recipe.test is not None:
        return "leave test out"
    own = next((part for part in ("val", "test") if counts.get(part)), None)
    return f'say validation: "{own}"' if own else "a val folder with some"


def check_classes(known: Sequence[str], classes: Sequence[str]) -> None:
    """Raises `Problem` dataset_changed where a job began with other classes: weights say nothing
    of those that have come since, and would be taken for others where one has gone.
    """
    told = [f"{one!r} has come" for one in sorted(set(classes) - set(known))]
    told += [f"{one!r} has gone" for one in sorted(set(known) - set(classes))]
    if told:
        raise Problem(
            "dataset_changed",
            f"The data set has other classes than when the job began: {', '.join(told[:5])}.",
            hint="Put the classes back and resume the job, or submit a new one: with init_from "
            "it takes over the weights of a checkpoint that had other classes.",
        )


def check_loss(recipe: Recipe, *, classes: int) -> None:
    """That weights and labels of the loss are those of the classes."""
    weight, ignored = recipe.loss.get("weight"), recipe.loss.get("ignore_index", NO_LABEL)
    if recipe.class_weights is not None:
        if "weight" not in recipe.loss:
            raise invalid(
                ["class_weights"],
                f"{recipe.loss['name']} weighs no classes.",
                "Take CrossEntropyLoss, or leave class_weights out.",
            )
        if weight is not None:
            raise invalid(
                ["class_weights"],
                "Both class_weights and loss.weight are given.",
                "Give one of them.",
            )
    _check_weights(["loss", "weight"], weight, classes)
    _check_weights(["class_weights"], recipe.class_weights, classes)
    if ignored != NO_LABEL and not 0 <= ignored < classes:
        raise invalid(
            ["loss", "ignore_index"],
            f"There is no class {ignored} among {classes}: they count from 0.",
            "Give the number of a class, or leave ignore_index out.",
        )
    if ignored != NO_LABEL and (mixes := mixing(recipe)):
        raise invalid(
            ["loss", "ignore_index"],
            f"ignore_index needs one label for each image, and {mixes} makes two of it.",
            f"Leave out ignore_index or {mixes}.",
        )


def check_schedule(recipe: Recipe, *, images: int) -> None:
    """That a scheduler can do what it says within a run over `images` images an epoch."""
    scheduler = recipe.scheduler
    if scheduler is None:
        return
    whole = moves(recipe, images)
    if whole < 1:
        raise invalid(
            ["scheduler", "warmup_epochs"],
            f"The run ends after {recipe.epochs} epochs, before its warm-up does, or with it.",
            "Give fewer warmup_epochs, or more epochs.",
        )
    if scheduler.get("cycle_momentum") and recipe.optimizer["name"] in _WITHOUT_MOMENTUM:
        raise invalid(
            ["scheduler", "cycle_momentum"],
            f"{recipe.optimizer['name']} has no momentum to cycle.",
            "Give cycle_momentum: false.",
        )
    for argument in ("milestones", "step_size"):
        if (last := _last(scheduler.get(argument, 0))) >= whole:
            raise invalid(
                ["scheduler", argument],
                f"{scheduler['name']} would move after {last} {scheduler['interval']}s, and the "
                f"run ends after {whole}.",
                "Give smaller numbers, more epochs, or another interval.",
            )


def schedule_length(recipe: Recipe, *, images: int) -> str | None:
    """What a person should know of a cosine whose `T_max` is not the length of the run."""
    half_wave = (recipe.scheduler or {}).get("T_max")
    if half_wave is None or half_wave == (whole := moves(recipe, images)):
        return None
    what = "does not come down to eta_min" if half_wave > whole else "rises again before the end"
    return f"With T_max {half_wave} in a run of {whole} the learning rate {what}."


def check_precision(recipe: Recipe) -> None:
    """That a device that is named computes in the precision that is named."""
    if recipe.precision in NEED_CUDA and recipe.device in ("cpu", "mps"):
        raise invalid(
            ["precision"],
            f"{recipe.precision} needs a CUDA GPU, and the recipe wants {recipe.device}.",
            "Take auto, fp32 or bf16.",
        )


def check_batch(recipe: Recipe) -> None:
    """That each of several devices gets an image of every whole batch."""
    if recipe.batch_size < recipe.devices:
        raise invalid(
            ["devices"],
            f"A batch of {recipe.batch_size} leaves some of {recipe.devices} devices without an "
            "image.",
            "Give a larger batch_size, or fewer devices.",
        )


def no_matrices() -> Problem:
    """What `optimizer` Muon is told where no weight that is trained is a matrix."""
    return invalid(
        ["optimizer", "name"],
        "Muon trains weights of two dimensions, as Linear has, and there are none to train.",
        "Take AdamW.",
    )


def devices_there(device: Device, found: Sequence[str], *, cores: int) -> int:
    """How many devices a recipe with this `device` may share a batch between, on a machine with
    the devices `found` and so many cores.
    """
    if device == "cpu" or (device == "auto" and set(found) == {"cpu"}):
        return cores
    kinds = ("cuda", "mps") if device == "auto" else (device,)
    return len({name for name in found if name.partition(":")[0] in kinds})


def too_many_devices(recipe: Recipe, there: int) -> Problem:
    """`device_unavailable`: the recipe wants more devices than there are."""
    message = f"The recipe wants {recipe.devices} devices, and the worker has {there}."
    return _unavailable("devices", message, f"Give devices: {there}, or fewer.")


def no_device(wanted: Device, has: str) -> Problem:
    """`device_unavailable`: the recipe wants another kind of device than there is."""
    message = f"The recipe wants {wanted}, and the worker has {has}."
    return _unavailable("device", message, 'Use device "auto".')


def no_precision(wanted: Precision, has: str) -> Problem:
    """`device_unavailable`: what there is does not compute in the precision, one of `NEED_CUDA`."""
    message = f"The recipe wants {wanted}, which needs a CUDA GPU, and the worker has {has}."
    return _unavailable("precision", message, 'Use precision "auto".')


def _unavailable(field: str, message: str, hint: str) -> Problem:
    return Problem(
        "device_unavailable", message, hint=hint, errors=[{"loc": ["body", field], "msg": message}]
    )


def invalid(where: Sequence[str | int], message: str, hint: str) -> Problem:
    """`invalid_request` for one field of the body."""
    return Problem(
        "invalid_request", message, hint=hint, errors=[{"loc": ["body", *where], "msg": message}]
    )


def _held_out(share: float | str | None, images: int) -> int:
    return max(1, round(images * share)) if isinstance(share, float) else 0


def _check_weights(where: list[str | int], weights: Any, classes: int) -> None:
    if not isinstance(weights, list):
        return
    if len(weights) != classes:
        raise invalid(
            where,
            f"There are {len(weights)} weights for {classes} classes.",
            "Give one weight for each class, in the order of the classes.",
        )
    if not any(weights):
        raise invalid(where, "All weights are 0.", "Give at least one class a weight above 0.")


def _last(steps: int | list[int]) -> int:
    return steps[-1] if isinstance(steps, list) else steps
