"""Recipes that are taken by name, each with what is to be known of it.

Torch-free. What they leave out is the data set's, as with any other body.
"""

from typing import Any

_NOTES: dict[str, Any] = {
    "optimizer": {"name": "SGD", "lr": 0.01},
    "scheduler": None,
    "normalize": None,
    "transforms": {"train": []},
    "data_loader": {"shuffle": False, "drop_last": False},
    "validation": "test",
    "precision": "fp32",
    "seed": 0,
    "checkpoints": {"every_epochs": 1, "keep": "all"},
}


# A convolution that BatchNorm follows, pooled where the image is to be half as large.
def _block(channels: int, *, kernel: int = 3, pool: bool = False) -> list[dict[str, Any]]:
    convolution = {"type": "Conv2d", "out_channels": channels, "kernel_size": kernel}
    return [
        {**convolution, "padding": kernel // 2, "bias": False},
        *([{"type": "MaxPool2d", "kernel_size": 2}] if pool else []),
        {"type": "BatchNorm2d"},
        {"type": "ReLU"},
    ]


READY_MADE: dict[str, dict[str, Any]] = {
    # The two scripts of the notes, 2.13.1.1 and 2.13.1.2, number by number.
    "notes-mnist": {
        "dataset": "mnist", "architecture": "mnist_net", "image_size": 28, "channels": 1,
        "epochs": 10, "batch_size": 128, **_NOTES,
    },
    "notes-cifar10": {
        "dataset": "cifar10", "architecture": "cifar10_net", "image_size": 32, "channels": 3,
        "epochs": 50, "batch_size": 64, **_NOTES,
    },
    "cifar10-fast": {
        "dataset": "cifar10", "architecture": "cifar10_fast", "image_size": 32, "channels": 3,
        "epochs": 17, "batch_size": 1024,
        "optimizer": {
            "name": "SGD", "lr": 1.5, "momentum": 0.85, "nesterov": True, "weight_decay": 0.00133,
        },
        # From a fifth of the rate to all of it, and down to 7 % of it, in straight lines.
        "scheduler": {
            "name": "OneCycleLR", "max_lr": 1.5, "pct_start": 0.23, "anneal_strategy": "linear",
            "div_factor": 5.0, "final_div_factor": 2.86, "cycle_momentum": False,
        },
        "loss": {"name": "CrossEntropyLoss", "label_smoothing": 0.2},
        "normalize": "auto",
        "transforms": {
            "train": [
                {"type": "RandomCrop", "padding": 2, "padding_mode": "reflect"},
                {"type": "RandomHorizontalFlip"},
            ]
        },
        "data_loader": {"drop_last": True},
        "validation": 0.02,
        "checkpoints": {"every_epochs": 17, "keep": 1},
    },
    "mnist-fast": {
        "dataset": "mnist",
        "architecture": {
            "layers": [
                *_block(16, kernel=5, pool=True),
                *_block(32),
                *_block(48, pool=True),
                *_block(64),
                {"type": "MaxPool2d", "kernel_size": 7},
                {"type": "Flatten"},
                {"type": "Linear"},
            ]
        },
        "image_size": 28, "channels": 1, "epochs": 4, "batch_size": 256,
        "optimizer": {
            "name": "SGD", "lr": 0.2, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4,
        },
        "scheduler": {
            "name": "OneCycleLR", "max_lr": 0.2, "pct_start": 0.25, "cycle_momentum": False,
        },
        "loss": {"name": "CrossEntropyLoss", "label_smoothing": 0.1},
        "normalize": "auto",
        "transforms": {"train": [{"type": "RandomCrop", "padding": 2}]},
        "validation": 0.02,
        "checkpoints": {"every_epochs": 4, "keep": 1},
    },
    "fine-tune": {
        "architecture": "mobilenet_v3_large", "pretrained": True,
        "epochs": 10, "batch_size": 32,
        "optimizer": {"name": "AdamW", "lr": 0.0003}, "head_lr": 0.003,
        "scheduler": {
            "name": "OneCycleLR", "max_lr": 0.0003, "pct_start": 0.2, "cycle_momentum": False,
        },
        "loss": {"name": "CrossEntropyLoss", "label_smoothing": 0.1},
        "transforms": {
            "train": [
                {"type": "RandomResizedCrop", "scale": [0.35, 1.0]},
                {"type": "RandomHorizontalFlip"},
            ]
        },
        "early_stopping": {"metric": "val_loss", "patience": 4},
    },
}  # fmt: skip

SUMMARIES: dict[str, str] = {
    "notes-mnist": "A course's notes, 2.13.1.1, number by number.",
    "notes-cifar10": "A course's notes, 2.13.1.2, number by number.",
    "cifar10-fast": "CIFAR-10 in seconds on a GPU. On a copy of lossy JPEG files (the original was "
    "not at hand) test accuracy 0.891, 0.888 to 0.894 in 10 runs, after 3.5 s of training on one "
    "H200. Published networks of its kind come to 0.94 on the original, and to 0.89 on that copy.",
    "mnist-fast": "MNIST in a minute on two cores. Test accuracy 0.995, 0.9932 to 0.9960 in 10 "
    "runs, after 0.6 s of training on one H200, or 70 s on two cores with bf16.",
    "fine-tune": "For images of one's own, from about 20 a class: a network that knows ImageNet "
    "learns them, its last layer ten times as fast as the rest. Name your data set beside it.",
}
"""What each is for, and what it has reached where it was measured."""
