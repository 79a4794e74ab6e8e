"""Grad-CAM against its formula written out, and for every kind of network that has a map."""

import io
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from models_store import architectures, explaining
from problems import Problem


def built(architecture: Any, *, channels: int = 3, side: int = 32) -> nn.Module:
    torch.manual_seed(0)
    size = (side, side)
    plan = architectures.plan(architecture, channels=channels, size=size, classes=5)
    return architectures.build(plan).eval().requires_grad_(False)


def inputs(channels: int = 3, side: int = 32, count: int = 3) -> torch.Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1))


def code_of(network: nn.Module, given: torch.Tensor) -> str:
    with pytest.raises(Problem) as caught:
        explaining.gradcam(network, given, [0] * len(given))
    return caught.value.code


def written_out(network: nn.Module, given: torch.Tensor, classes: list[int], *, at: int) -> Any:
    """The paper's equations, image by image, for layers in a row cut in two before layer `at`."""
    found = []
    for image, label in zip(given, classes, strict=True):
        features = network.model[:at](image[None]).requires_grad_()
        score = network.model[at:](features)[0, label]
        (gradient,) = torch.autograd.grad(score, features)
        height, width = features.shape[2:]
        heat = torch.zeros(height, width)
        for channel in range(features.shape[1]):
            alpha = gradient[0, channel].sum() / (height * width)
            heat += alpha * features[0, channel].detach()
        heat = functional.interpolate(
            heat.clamp(min=0)[None, None], image.shape[1:], mode="bilinear", align_corners=False
        )[0, 0]
        found.append((heat / heat.max().clamp(min=1e-20)).numpy())
    return np.stack(found)


@pytest.mark.parametrize(
    ("architecture", "channels", "side", "at"),
    [("mnist_net", 1, 28, 5), ("cifar10_net", 3, 32, 5), ("resnet_small", 3, 32, 12)],
)
def test_the_papers_formula(architecture: str, channels: int, side: int, at: int) -> None:
    network, given = built(architecture, channels=channels, side=side), inputs(channels, side)
    found = explaining.gradcam(network, given, [0, 3, 3])
    assert found.dtype == np.float32
    assert found.max() == pytest.approx(1)
    np.testing.assert_allclose(found, written_out(network, given, [0, 3, 3], at=at), atol=1e-5)


def test_with_a_mean_and_one_linear_layer_it_is_the_map_of_that_layers_weights() -> None:
    """As the paper proves: then it is CAM (Zhou et al., 2016) but for a factor."""
    network, given = built("resnet_small"), inputs(count=1)
    features = network.model[:12](given)[0]
    heat = torch.einsum("c,chw->hw", network.model[14].weight[2], features).clamp(min=0)
    heat = functional.interpolate(heat[None, None], (32, 32), mode="bilinear")[0, 0]
    found = explaining.gradcam(network, given, [2])
    np.testing.assert_allclose(found[0], heat / heat.max(), atol=1e-5)


def test_the_place_that_speaks_for_a_class_is_found() -> None:
    """A network that answers by how much light there is at the top, or at the bottom."""
    row = [{"type": "Conv2d", "out_channels": 2, "kernel_size": 1}, {"type": "Flatten"}]
    network = built({"layers": [*row, {"type": "Linear"}]}, channels=1, side=8)
    state = network.state_dict()
    state["model.0.weight"][:] = 1
    state["model.0.bias"][:] = 0
    linear = state["model.2.weight"].zero_().view(5, 2, 8, 8)
    linear[0, 0], linear[1, 1] = 1, 1
    given = torch.zeros(2, 1, 8, 8)
    given[0, 0, 1, 2], given[1, 0, 6, 5] = 1, 1
    found = explaining.gradcam(network, given, [0, 1])
    assert [np.unravel_index(heat.argmax(), heat.shape) for heat in found] == [(1, 2), (6, 5)]
    assert (found > 0).sum() == 2
    assert not explaining.gradcam(network, given, [3, 4]).any()  # nothing speaks for these


MAPS = {
    "densenet121": "Sequential",
    "googlenet": "Inception",
    "mnasnet0_5": "Sequential",
    "mobilenet_v3_small": "Sequential",
    "resnet50": "Sequential",
    "shufflenet_v2_x0_5": "Sequential",
    "squeezenet1_1": "ReLU",
    "swin_t": "Permute",
}


@pytest.mark.parametrize("name", MAPS)
def test_of_torchvisions_networks_the_whole_of_the_last_map(name: str) -> None:
    side = 64
    network, given = built(name, side=side), inputs(side=side, count=1)
    place = explaining._last_map(network, given)
    assert place is not None
    assert type(place[0]).__name__ == MAPS[name]
    heats = explaining.gradcam(network, given.expand(5, -1, -1, -1), list(range(5)))
    assert heats.shape == (5, side, side)
    if name != "googlenet":  # before it is trained nothing reaches its end
        assert heats.max() == pytest.approx(1)
        assert heats.std() > 0


LAYERS: dict[str, tuple[list[dict[str, Any]], bool]] = {
    "none at all": ([], False),
    "a single pixel": ([{"type": "AdaptiveAvgPool2d", "output_size": 1}], False),
    "pools alone": ([{"type": "MaxPool2d", "kernel_size": 2}], False),
    "what overwrites": (
        [
            {"type": "Conv2d", "out_channels": 4, "kernel_size": 3},
            {"type": "ReLU", "inplace": True},
        ],
        True,
    ),
    "pooled, then dropped": (
        [
            {"type": "Conv2d", "out_channels": 4, "kernel_size": 3},
            {"type": "MaxPool2d", "kernel_size": 2},
            {"type": "Dropout"},
        ],
        True,
    ),
    "a sum": (
        [{"type": "Residual", "layers": [
            {"type": "Conv2d", "out_channels": 3, "kernel_size": 3, "padding": 1}]}],
        True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", LAYERS)
def test_own_lists_of_layers(kind: str) -> None:
    layers, has_map = LAYERS[kind]
    network = built({"layers": [*layers, {"type": "Flatten"}, {"type": "Linear"}]})
    if has_map:
        assert explaining.gradcam(network, inputs(), [0, 1, 2]).shape == (3, 32, 32)
    else:
        assert code_of(network, inputs()) == "no_feature_map"


def test_a_transformer_of_tokens_has_no_map() -> None:
    from torchvision.models import VisionTransformer

    network = VisionTransformer(
        image_size=32, patch_size=16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8,
        num_classes=5,
    ).eval()  # fmt: skip
    assert code_of(network, inputs()) == "no_feature_map"


def test_an_images_map_is_its_own() -> None:
    network, given = built("resnet_small"), inputs(count=4)
    together = explaining.gradcam(network, given, [0, 1, 2, 3])
    for index in range(4):
        alone = explaining.gradcam(network, given[index : index + 1], [index])
        np.testing.assert_allclose(together[index], alone[0], atol=1e-5)


def test_the_network_is_left_as_it_was_while_others_compute_with_it() -> None:
    network, given = built("resnet_small"), inputs()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.inference_mode():
        expected = network(given)
    heat = explaining.gradcam(network, given, [0, 1, 2])

    def one(explained: bool) -> bool:
        if explained:
            return bool((explaining.gradcam(network, given, [0, 1, 2]) == heat).all())
        with torch.inference_mode():
            return bool((network(given) == expected).all())

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(one, itertools.islice(itertools.cycle([True, False]), 40)))
    assert all((value == before[key]).all() for key, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
    assert not any(one.requires_grad or one.grad is not None for one in network.parameters())


def test_weights_of_16_bits_stay_so_and_are_computed_with_in_32() -> None:
    network, given = built("resnet_small"), inputs()
    halved = built("resnet_small").bfloat16()
    heat = explaining.gradcam(halved, given, [0, 1, 2])
    assert {one.dtype for one in halved.parameters()} == {torch.bfloat16}
    widened = network.bfloat16().float()
    np.testing.assert_allclose(heat, explaining.gradcam(widened, given, [0, 1, 2]), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_heat_is_laid_over_the_pixels(channels: int) -> None:
    pixels = np.full((4, 6, channels), 100, np.uint8)
    heat = np.zeros((4, 6), np.float32)
    heat[1, 2], heat[3, 5] = 1, 0.5
    mixed = explaining.heated(pixels, heat)
    assert (mixed.shape, mixed.dtype) == ((4, 6, 3), np.uint8)
    assert (mixed[0] == 100).all()
    assert mixed[1, 2].tolist() == [209, 209, 30]
    assert mixed[3, 5].tolist() == [154, 110, 65]


def test_a_png_of_grey_or_colour() -> None:
    for channels, mode in ((1, "L"), (3, "RGB")):
        pixels = np.arange(24 * channels, dtype=np.uint8).reshape(4, 6, channels)
        image = Image.open(io.BytesIO(explaining.png(pixels)))
        assert image.mode == mode
        np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), pixels)
