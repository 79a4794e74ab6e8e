"""The networks that have a name: each as the list of layers that anybody could submit.

Torch-free. torchvision's are not among them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models_store.layers import LayerList
from problems import match


@dataclass(frozen=True, slots=True)
class Architecture:
    """Layers with what must be said; `prefix` is what state_dict keys start with. One that is
    `whitened` begins as `whitening` says.
    """

    summary: str
    input_size: int
    channels: int
    network: LayerList
    prefix: str = "model."
    whitened: bool = False


def _row(*layers: Mapping[str, Any]) -> LayerList:
    return LayerList.model_validate({"layers": layers})


def _normalised(channels: int, *, kernel: int, stride: int = 1) -> list[Mapping[str, Any]]:
    """A convolution that BatchNorm follows, whose own bias would be taken away again."""
    padding = kernel // 2
    convolution = {"out_channels": channels, "kernel_size": kernel, "bias": False}
    return [
        {"type": "Conv2d", **convolution, "stride": stride, "padding": padding},
        {"type": "BatchNorm2d"},
    ]


def _block(channels: int, *, stride: int = 1) -> list[Mapping[str, Any]]:
    """ResNet's basic block (He et al., 2015, figure 2); where the shape changes, the shortcut is a
    1x1 convolution (their option B).
    """
    main = [*_normalised(channels, kernel=3, stride=stride), {"type": "ReLU"}]
    main += _normalised(channels, kernel=3)
    shortcut = _normalised(channels, kernel=1, stride=stride) if stride > 1 else []
    return [{"type": "Residual", "layers": main, "shortcut": shortcut}, {"type": "ReLU"}]


def _pooled_block(channels: int) -> list[Mapping[str, Any]]:
    """Two convolutions, the image half as large after the first. So short a training has no time
    for BatchNorm's usual memory of ten batches.
    """
    convolution = _normalised(channels, kernel=3)[0]
    norm = {"type": "BatchNorm2d", "momentum": 0.4}
    pool = {"type": "MaxPool2d", "kernel_size": 2}
    return [convolution, pool, norm, {"type": "GELU"}, convolution, norm, {"type": "GELU"}]


# Where `out_features` is left out, it is the number of classes.
ARCHITECTURES: dict[str, Architecture] = {
    "mnist_net": Architecture(
        "The notes' MNIST network (2.13.1.1): two convolutions, two linear layers.",
        input_size=28,
        channels=1,
        network=_row(
            {"type": "Conv2d", "out_channels": 10, "kernel_size": 5},
            {"type": "ReLU"},
            {"type": "MaxPool2d", "kernel_size": 2, "stride": 2},
            {"type": "Conv2d", "out_channels": 20, "kernel_size": 3},
            {"type": "ReLU"},
            {"type": "Flatten"},
            {"type": "Linear", "out_features": 500},
            {"type": "ReLU"},
            {"type": "Linear"},
        ),
    ),
    "cifar10_net": Architecture(
        "The notes' CIFAR-10 network (2.13.1.2): three convolutions, two linear layers.",
        input_size=32,
        channels=3,
        network=_row(
            {"type": "Conv2d", "out_channels": 32, "kernel_size": 5, "stride": 1, "padding": 2},
            {"type": "MaxPool2d", "kernel_size": 2},
            {"type": "Conv2d", "out_channels": 32, "kernel_size": 5, "stride": 1, "padding": 2},
            {"type": "MaxPool2d", "kernel_size": 2},
            {"type": "Conv2d", "out_channels": 64, "kernel_size": 5, "stride": 1, "padding": 2},
            {"type": "MaxPool2d", "kernel_size": 2},
            {"type": "Flatten"},
            {"type": "Linear", "out_features": 64},
            {"type": "ReLU"},
            {"type": "Linear"},
        ),
    ),
    "lenet5": Architecture(
        "LeNet-5 with sigmoids and average pooling, as the notes print it (2.14.1).",
        input_size=28,
        channels=1,
        network=_row(
            {"type": "Conv2d", "out_channels": 6, "kernel_size": 5, "padding": 2},
            {"type": "Sigmoid"},
            {"type": "AvgPool2d", "kernel_size": 2, "stride": 2},
            {"type": "Conv2d", "out_channels": 16, "kernel_size": 5},
            {"type": "Sigmoid"},
            {"type": "AvgPool2d", "kernel_size": 2, "stride": 2},
            {"type": "Flatten"},
            {"type": "Linear", "out_features": 120},
            {"type": "Sigmoid"},
            {"type": "Linear", "out_features": 84},
            {"type": "Sigmoid"},
            {"type": "Linear"},
        ),
        prefix="",  # the notes' LeNet is a bare Sequential
    ),
    "resnet_small": Architecture(
        "A ResNet of nine 3x3 convolutions for images of 28 to 64 pixels, quick on a CPU.",
        input_size=32,
        channels=3,
        # Pooling right after the first convolution halves the time and costs no accuracy.
        network=_row(
            *_normalised(32, kernel=3),
            {"type": "ReLU"},
            {"type": "MaxPool2d", "kernel_size": 2},
            *_block(32),
            *_block(64, stride=2),
            *_block(64),
            *_block(96, stride=2),
            {"type": "AdaptiveAvgPool2d", "output_size": 1},
            {"type": "Flatten"},
            {"type": "Linear"},
        ),
    ),
    "cifar10_fast": Architecture(
        "Learns CIFAR-10 in seconds on a GPU: six 3x3 convolutions behind one that whitens.",
        input_size=32,
        channels=3,
        # The form of networks that were made for this race (Jordan, 2024): see decision 37.
        network=_row(
            {"type": "Conv2d", "out_channels": 24, "kernel_size": 2},
            {"type": "GELU"},
            *_pooled_block(64),
            *_pooled_block(256),
            *_pooled_block(256),
            {"type": "MaxPool2d", "kernel_size": 3},
            # Divides by about seven: logits begin small, and the last layer learns slowly.
            {"type": "BatchNorm2d", "affine": False, "eps": 49.0, "momentum": 0.4},
            {"type": "Flatten"},
            {"type": "Linear", "bias": False},
        ),
        whitened=True,
    ),
}


def says(architecture: str | Mapping[str, Any], name: Any) -> bool:
    """Whether a recipe's network is the one of this name, said by name or layer by layer."""
    if isinstance(architecture, str):
        return match(architecture, [str(name)]) is not None
    known = ARCHITECTURES.get(str(name))
    return known is not None and architecture == known.network.canonical()
