"""The recipe that a person's own images are trained with when nothing else is asked for.

Chooses by image size and by how many there are; the built-in sets have theirs in `built_in`.
"""

import math
from typing import Any

_SMALL = 64  # px: up to here images are used about as they are
_MANY = 5000  # small images: from here on SGD is as good as Adam, and soon better; below, far worse
_STEPS = 1500  # enough for a pretrained network to settle on other images
_UNEVEN = 3  # images of the most frequent class for each of the rarest: from there on they count


def for_folder(*, height: int, width: int, images: int, imbalance: float = 1.0) -> dict[str, Any]:
    """A recipe, as it would be submitted, for a training part of `images` images of that size.

    `imbalance` is how many images the most frequent class has for each of the rarest one.
    """
    side = max(height, width)
    return _small(side, images) if side <= _SMALL else _large(images, imbalance)


def _small(side: int, images: int) -> dict[str, Any]:
    optimizer: dict[str, Any] = {"name": "Adam", "lr": 0.005}
    if images >= _MANY:
        more = {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
        optimizer = {"name": "SGD", "lr": 0.1, **more}
    return {
        "architecture": "resnet_small",
        "image_size": 32 if side <= 40 else 64,
        "epochs": 15,
        "optimizer": optimizer,
        "scheduler": {"name": "OneCycleLR", "max_lr": optimizer["lr"]},
        "transforms": {
            "train": [{"type": "RandomCrop", "padding": 4}, {"type": "RandomHorizontalFlip"}]
        },
    }


def _large(images: int, imbalance: float) -> dict[str, Any]:
    batch = min(128, max(2, images // 4))  # what a recipe takes when it names none
    return {
        "architecture": "mobilenet_v3_small",
        "pretrained": "auto",
        "image_size": 224,
        "optimizer": {"name": "Adam", "lr": 0.001},
        "epochs": min(100, max(10, round(_STEPS / math.ceil(images / batch)))),
        "transforms": {"train": [{"type": "RandomResizedCrop"}, {"type": "RandomHorizontalFlip"}]},
        "early_stopping": {"metric": "val_loss", "patience": 10},
        "class_weights": "balanced" if imbalance > _UNEVEN else None,
    }
