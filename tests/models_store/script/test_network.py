import torch
from torch import nn
from torchvision import models

from models_store import architectures
from models_store.script import network

LAYERS = {
    "layers": [
        {"type": "Conv2d", "out_channels": 4, "kernel_size": [3, 5], "padding": "same"},
        {"type": "BatchNorm2d", "eps": 0.001},
        {"type": "Residual", "layers": [{"type": "Residual", "layers": []}]},
        {"type": "MaxPool2d", "kernel_size": 2, "stride": 2, "ceil_mode": True},
        {"type": "GELU", "approximate": "tanh"},
        {"type": "AdaptiveAvgPool2d", "output_size": [2, None]},
        {"type": "Dropout", "p": 0.2},
        {"type": "Flatten"},
        {"type": "Linear", "bias": False},
    ]
}


def built(known):
    plan = network.planned(known)
    scope = {"torch": torch, "nn": nn, "models": models, "NUM_CLASSES": 3}
    blocks = [*network.classes(plan), network.building(plan, known)]
    torch.manual_seed(0)
    exec("\n".join("\n".join(block) for block in blocks), scope)
    return plan, scope["model"]


def test_layers_come_with_the_same_weights_and_outputs(known):
    for architecture in (LAYERS, "mnist_net", "lenet5", "resnet_small"):
        plan, theirs = built(known(architecture=architecture))
        torch.manual_seed(0)
        ours = architectures.build(plan)
        images = torch.rand(2, 1, 28, 28)

        assert list(theirs.state_dict()) == list(ours.state_dict())
        assert torch.equal(theirs.eval()(images), ours.eval()(images))


def test_layers_are_written_with_what_is_inferred(known):
    plan = network.planned(known(architecture=LAYERS))
    text = "\n".join("\n".join(block) for block in network.classes(plan))

    assert '            nn.Conv2d(1, 4, (3, 5), padding="same"),  # 4 x 28 x 28\n' in text
    assert "            nn.Linear(112, 3, bias=False),  # 3\n" in text
    assert "                    nn.Sequential(),\n" in text
    assert "class Residual(nn.Module):" in text


def test_networks_of_torchvision_come_with_the_same_weights(known):
    plan, theirs = built(known(architecture="squeezenet1_1"))
    torch.manual_seed(0)
    ours = architectures.build(plan).state_dict()

    assert all(torch.equal(value, ours[key]) for key, value in theirs.state_dict().items())


def test_where_the_head_is():
    def head(name):
        plan = architectures.plan(name, channels=3, size=(224, 224), classes=3)
        return network.head(plan)[0]

    assert head("resnet18") == "model.fc"
    assert head("mobilenet_v3_small") == "model.classifier[3]"
    assert head("vit_b_16") == "model.heads.head"
