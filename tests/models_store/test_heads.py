"""Which layer's outputs are the classes."""

import pytest

from models_store import architectures, heads

_CONVOLUTIONAL = {
    "layers": [
        {"type": "Conv2d", "out_channels": 4, "kernel_size": 3},
        {"type": "Conv2d", "out_channels": 10, "kernel_size": 1, "bias": False},
        {"type": "AdaptiveAvgPool2d", "output_size": 1},
        {"type": "Flatten"},
    ]
}
_NORMALIZED_ALONE = {
    "layers": [
        {"type": "BatchNorm2d"},
        {"type": "AdaptiveAvgPool2d", "output_size": 1},
        {"type": "Flatten"},
    ]
}


@pytest.mark.parametrize(
    ("architecture", "channels", "side", "head"),
    [
        ("mnist_net", 1, 28, {"model.8.weight", "model.8.bias"}),
        ("lenet5", 1, 28, {"11.weight", "11.bias"}),
        ("resnet_small", 3, 32, {"model.14.weight", "model.14.bias"}),
        (_CONVOLUTIONAL, 1, 8, {"model.1.weight"}),
        (_NORMALIZED_ALONE, 10, 8, set()),
        ("squeezenet1_1", 3, 64, {"classifier.1.weight", "classifier.1.bias"}),
    ],
)
def test_head(architecture, channels, side, head):
    plan = architectures.plan(architecture, channels=channels, size=(side, side), classes=10)
    outline = architectures.outline(plan)
    assert heads.of(architecture, outline) == head
    assert head <= set(outline.state_dict())
