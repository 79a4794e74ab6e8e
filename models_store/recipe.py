"""From what a person asks for to what is run: `resolve` fills every default.

Defaults come from the facts of the data set. Knows neither torch nor where data sets lie; whether
the network fits the images is `architectures.plan`'s to say.
"""

import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from models_store import arguments, catalogue, misfits, transform_rules
from models_store.fields import (
    Checkpoints,
    DataLoader,
    Normalize,
    Recipe,
    SubmittedRecipe,
    TensorBoard,
)
from models_store.layers import LayerList
from models_store.manifest import Manifest
from models_store.named import Named, SubmittedLoss, SubmittedOptimizer
from models_store.ready_made import READY_MADE
from problems import Problem, did_you_mean, match

__all__ = [
    "READY_MADE",
    "Facts",
    "Recipe",
    "SubmittedRecipe",
    "check_batches",
    "resolve",
    "wanted_dataset",
]


class Facts(Protocol):
    """What `resolve` must know of a data set."""

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> Sequence[str]: ...
    @property
    def counts(self) -> Mapping[str, int]: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def defaults(self) -> Mapping[str, Any]: ...


_ADAM = {"name": "Adam", "lr": 0.001}
_LABELS = {"recipe", "name", "tags", "priority", "lr"}


def wanted_dataset(submitted: SubmittedRecipe) -> str:
    """The data set that is meant, by the body or by its ready-made recipe.

    Raises `Problem`: recipe_unknown, or invalid_request when neither names one.
    """
    name = submitted.dataset or _ready_made(submitted).get("dataset")
    if name is None:
        raise Problem(
            "invalid_request",
            "The recipe names no data set.",
            hint='The least that trains is {"dataset": "digits"}.',
            errors=[{"loc": ["body", "dataset"], "msg": "Field required"}],
        )
    return str(name)


def resolve(submitted: SubmittedRecipe, facts: Facts, *, start: Manifest | None = None) -> Recipe:
    """Fills in every default: the body's words come first, then those of the checkpoint `start`
    that is started from, then the recipe's, then the data set's.

    Raises `Problem` (recipe_unknown, optimizer_unknown, scheduler_unknown, loss_unknown,
    unknown_field, invalid_request, dataset_invalid, transforms_misfit) with the place of each
    wrong field.
    """
    given = {
        key: value
        for key, value in submitted.model_dump(exclude_unset=True).items()
        if key not in _LABELS
    }
    of_set = {**_general(facts), **facts.defaults}
    defaults = {**of_set, **_ready_made(submitted)}
    chosen = defaults | {
        key: value for key, value in given.items() if value is not None or key in _NULLABLE
    }
    chosen["dataset"] = facts.name
    if isinstance(submitted.architecture, LayerList):
        chosen["architecture"] = submitted.architecture.canonical()
    for part in ("transforms", "data_loader", "checkpoints", "tensorboard"):
        chosen[part] = {**defaults[part], **(given.get(part) or {})}
    if "train" in (given.get("transforms") or {}):  # a default eval goes with its train
        chosen["transforms"] = given["transforms"]
    if chosen["early_stopping"] is not None:
        chosen["early_stopping"] = {
            **(defaults["early_stopping"] or {}),
            **chosen["early_stopping"],
        }
    said = _ready_made(submitted).keys() | given.keys()
    if start is not None:
        from models_store import starts  # torch

        # It was said beside a ready-made recipe, and goes before what that says.
        chosen |= starts.follows(start, chosen, given.keys())
    pair = defaults | _gentler(submitted, defaults, chosen["architecture"])
    chosen["optimizer"], chosen["scheduler"] = _tuned(submitted, pair)
    chosen |= _pretrained(chosen, of_set, said=said)
    chosen |= _loss(submitted, defaults)
    if chosen["seed"] is None:
        chosen["seed"] = secrets.randbelow(2**31)
    if isinstance(chosen["image_size"], list) and len(set(chosen["image_size"])) == 1:
        chosen["image_size"] = chosen["image_size"][0]
    recipe = transform_rules.settle(Recipe.model_validate(chosen), said=submitted.normalize)
    _check(recipe, facts)
    return recipe


_NULLABLE = {
    *("normalize", "seed", "class_weights", "clip_grad_norm", "max_seconds", "early_stopping"),
    *("test", "head_lr", "init_from", "promote"),
}


def _pretrained(
    chosen: Mapping[str, Any], of_set: Mapping[str, Any], *, said: Collection[str]
) -> dict[str, Any]:
    """What follows from `pretrained`, `freeze_backbone` and `head_lr`."""
    wanted = dict(chosen)
    own = catalogue.says(wanted["architecture"], of_set["architecture"])
    if "pretrained" not in said and not own:
        wanted["pretrained"] = False  # the default is about the default network
    if wanted["pretrained"] or wanted["freeze_backbone"] or wanted["head_lr"] is not None:
        from models_store import pretrained  # torch

        return wanted | pretrained.completed(wanted, said)
    return wanted


def _gentler(
    submitted: SubmittedRecipe, defaults: Mapping[str, Any], architecture: Any
) -> dict[str, Any]:
    """The general optimizer, and the default schedule up to its rate, for another network than the
    default one where that has BatchNorm: one without soon learns nothing any more at its rate.
    """
    known = catalogue.ARCHITECTURES.get(str(defaults["architecture"]))
    normalised = known and any(layer.type == "BatchNorm2d" for layer in known.network.layers)
    own = catalogue.says(architecture, defaults["architecture"])
    if own or not normalised or "optimizer" in _ready_made(submitted):
        return {}
    schedule = {k: v for k, v in (defaults["scheduler"] or {}).items() if k != "max_lr"}
    return {"optimizer": _ADAM, "scheduler": schedule}


def _ready_made(submitted: SubmittedRecipe) -> dict[str, Any]:
    if submitted.recipe is None:
        return {}
    found = match(submitted.recipe, READY_MADE)
    if found is None:
        raise Problem(
            "recipe_unknown",
            f"There is no recipe named {submitted.recipe!r}.",
            hint=did_you_mean(submitted.recipe, READY_MADE),
            errors=[{"loc": ["body", "recipe"], "msg": "unknown recipe"}],
        )
    return READY_MADE[found]


def _general(facts: Facts) -> dict[str, Any]:
    """Defaults where the data set's own are silent."""
    images = facts.counts.get("train", 0)
    own_validation = facts.counts.get("val", 0) > 0
    return {
        "architecture": "mnist_net" if facts.channels == 1 else "cifar10_net",
        "epochs": 10,
        "batch_size": max(2, min(128, images // 4)),  # BatchNorm takes no single image
        "optimizer": _ADAM,
        "scheduler": None,
        "pretrained": False,
        "freeze_backbone": False,
        "head_lr": None,
        "init_from": None,
        "loss": {"name": "CrossEntropyLoss"},
        "class_weights": None,
        "grad_accumulation": 1,
        "clip_grad_norm": None,
        "max_seconds": None,
        "early_stopping": None,
        "image_size": [facts.height, facts.width],
        "channels": facts.channels,
        "normalize": None,
        "invert": "auto",
        "transforms": {"train": []},
        "data_loader": DataLoader().model_dump(),
        "validation": "val" if own_validation else 0.2 if images < 1000 else 0.1,
        "test": None,
        "device": "auto",
        "devices": 1,
        "precision": "auto",
        "compile": False,
        "deterministic": False,
        "seed": None,
        "checkpoints": Checkpoints().model_dump(),
        "tensorboard": TensorBoard(histograms=False).model_dump(),
    }


def _tuned(
    submitted: SubmittedRecipe, defaults: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Optimizer and scheduler. The default pair is tuned together: naming an optimizer leaves the
    default schedule behind, while `lr` alone keeps it and moves its peak.
    """
    wanted = submitted.optimizer or SubmittedOptimizer()
    optimizer = _merged(wanted, defaults["optimizer"])
    if submitted.lr is not None:
        optimizer["lr"] = submitted.lr
    complete = arguments.complete("optimizer", optimizer.pop("name"), optimizer)

    default = dict(defaults["scheduler"] or {})
    if wanted.name or submitted.lr is not None or "lr" in wanted.arguments():
        default.pop("max_lr", None)
    if submitted.scheduler is not None:
        scheduler = _merged(submitted.scheduler, default)
    elif wanted.name or "scheduler" in submitted.model_fields_set:
        scheduler = {}
    else:
        scheduler = default
    if not scheduler:
        return complete, None
    if "name" not in scheduler:
        raise Problem(
            "invalid_request",
            "The scheduler has no name.",
            hint='For example {"name": "OneCycleLR"}.',
            errors=[{"loc": ["body", "scheduler", "name"], "msg": "Field required"}],
        )
    name = scheduler.pop("name")
    if match(name, ["OneCycleLR"]):
        scheduler.setdefault("max_lr", complete["lr"])
    return complete, arguments.complete("scheduler", name, scheduler)


def _loss(submitted: SubmittedRecipe, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The loss; one that has a weight of its own, or takes none, leaves default weights behind."""
    wanted = _merged(submitted.loss or SubmittedLoss(), defaults["loss"])
    loss = arguments.complete("loss", wanted.pop("name"), wanted)
    said = submitted.class_weights is not None or "class_weights" in _ready_made(submitted)
    if said or loss.get("weight", ()) is None:
        return {"loss": loss}
    return {"loss": loss, "class_weights": None}


def _merged(given: Named, default: Mapping[str, Any]) -> dict[str, Any]:
    """The given arguments: beside a name they stand alone, else they change the default's."""
    if given.name is not None:
        return {"name": given.name, **given.arguments()}
    return {**default, **given.arguments()}


def _check(recipe: Recipe, facts: Facts) -> None:
    """What only recipe and data set together can tell."""
    if not facts.counts.get("train", 0):
        raise Problem("dataset_invalid", f"{facts.name} has no training images.")
    misfits.check_parts(recipe, facts.counts, name=facts.name, classes=len(facts.classes))
    misfits.check_loss(recipe, classes=len(facts.classes))
    misfits.check_schedule(recipe, images=misfits.trained(recipe, facts.counts["train"]))
    misfits.check_precision(recipe)
    misfits.check_batch(recipe)
    if isinstance(recipe.normalize, Normalize):
        lengths = {len(recipe.normalize.mean), len(recipe.normalize.std)}
        if lengths != {recipe.channels}:
            raise misfits.invalid(
                ["normalize"],
                f"mean and std need one number for each of {recipe.channels} channels.",
                "Give as many numbers as there are channels, or auto.",
            )


def check_batches(recipe: Recipe, images: int) -> None:
    """For a network with BatchNorm, which cannot be trained on one image at a time: a device that
    would get no more gets none, and nothing would be known there of the images.

    Raises `Problem` invalid_request.
    """
    for place, count in (("batch_size", recipe.batch_size), ("dataset", images)):
        if count < 2:
            raise misfits.invalid(
                [place],
                "A network with BatchNorm is trained on two images at a time or more.",
                "Give a larger batch_size, more images, or a network without BatchNorm.",
            )
    if min(recipe.batch_size, images) < 2 * recipe.devices:
        raise misfits.invalid(
            ["devices"],
            f"A network with BatchNorm is trained on two images at a time or more on each of "
            f"{recipe.devices} devices.",
            "Give a larger batch_size, fewer devices, or a network without BatchNorm.",
        )
