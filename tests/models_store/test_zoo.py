"""The zoo held against what torchvision says of its own networks."""

import pickle

import pytest
import torch
from torch import nn
from torchvision import models

from models_store import architectures, zoo
from problems import Problem

# One of each kind of oddity: plain, widths that are tensors, attention, two outputs.
ODD = ["resnet18", "regnet_y_400mf", "swin_v2_t", "vit_b_32", "googlenet"]


def plan(name: str, side: int | None = None, **given: int) -> architectures.Plan:
    size = side or zoo.native_size(architectures.canonical(name))
    return architectures.plan(
        name,
        channels=given.get("channels", 3),
        size=(given.get("height", size), size),
        classes=given.get("classes", 10),
    )


def misfit(name: str, side: int, **given: int) -> Problem:
    with pytest.raises(Problem) as caught:
        plan(name, side, **given)
    assert caught.value.code == "network_misfit"
    assert caught.value.errors[0]["loc"] == ["body", "image_size"]
    return pickle.loads(pickle.dumps(caught.value))


def test_all_of_torchvisions_classification_networks_are_there() -> None:
    assert set(zoo.names()) == set(models.list_models(module=models))
    assert {"vgg16", "swin_t", "vit_b_16", "regnet_x_32gf"} <= set(zoo.names())
    assert not any("quantized" in name or "segmentation" in name for name in zoo.names())


@pytest.mark.parametrize("name", zoo.names())
def test_layers_and_head_of(name: str) -> None:
    published = models.get_model_weights(name).DEFAULT.meta["num_params"]
    side = zoo.native_size(name)

    parts = zoo.parts(name, channels=3, size=(side, side), classes=1000)

    extra = {"inception_v3": 3_326_696}  # its second output, which is left out
    assert sum(part.parameters for part in parts) == published - extra.get(name, 0)
    head = zoo.head(name)
    last = next(part for part in reversed(parts) if f"{part.name}.weight" in head)
    assert last.output_shape[0] == 1000
    assert all(key.startswith(last.name) for key in head)


@pytest.mark.parametrize("name", ODD)
class TestOdd:
    def test_the_plan_is_the_real_networks(self, name: str) -> None:
        planned = plan(name, channels=1, classes=7)

        network = zoo.outline(name, channels=1, size=planned.input_shape[1:], classes=7)

        assert planned.parameters == sum(value.numel() for value in network.parameters())
        assert zoo.first_convolution(network)[1].in_channels == 1
        assert planned.layers[-1].output_shape == (7,)
        assert [layer.index for layer in planned.layers] == list(range(len(planned.layers)))

    def test_operations_are_as_torchvision_counts_them(self, name: str) -> None:
        counted = architectures.flops(plan(name, classes=1000)) / 2e9
        assert counted == pytest.approx(
            models.get_model_weights(name).DEFAULT.meta["_ops"], rel=0.01, abs=0.0006
        )

    def test_an_outline_has_no_weights_and_draws_nothing(self, name: str) -> None:
        planned = plan(name)
        before = torch.get_rng_state()

        network = architectures.outline(planned)

        assert torch.equal(torch.get_rng_state(), before)
        real = [value for value in network.parameters() if not value.is_meta]
        # What is made without `torch.empty` is small: tokens, scales, tables of positions.
        assert sum(value.numel() for value in real) < 200_000
        assert not any(value.is_meta for value in network.buffers())


def test_names_are_matched_as_everywhere() -> None:
    assert architectures.canonical("ResNet-18") == "resnet18"
    assert architectures.canonical("ViT-B-16") == "vit_b_16"


@pytest.mark.parametrize(
    ("wrong", "meant"), [("resnet-81", "resnet18"), ("mnist_ned", "mnist_net")]
)
def test_misses_say_what_was_perhaps_meant(wrong: str, meant: str) -> None:
    with pytest.raises(Problem) as caught:
        architectures.canonical(wrong)
    assert caught.value.code == "architecture_unknown"
    assert meant in caught.value.hint


def test_weights_are_torchvisions_own_of_the_same_seed() -> None:
    planned = plan("squeezenet1_1", 32)
    torch.manual_seed(3)
    ours = architectures.build(planned).state_dict()
    torch.manual_seed(3)
    theirs = models.squeezenet1_1(num_classes=10).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_grey_images_are_three_equal_channels() -> None:
    planned = [plan("squeezenet1_1", 32, channels=channels) for channels in (1, 3)]
    networks = []
    for one in planned:
        torch.manual_seed(3)
        networks.append(architectures.build(one).eval())
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        grey, colour = networks[0](images), networks[1](images.expand(2, 3, 32, 32))
    torch.testing.assert_close(grey, colour, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_extra_outputs_are_left_out(name: str) -> None:
    planned = plan(name, 96)
    network = architectures.outline(planned)
    assert not any("aux" in key.casefold() for key in network.state_dict())
    assert not network.transform_input


def test_a_table_shows_what_matters_of_each_layer() -> None:
    stem, *_, head = plan("resnet18", 64).layers
    assert (stem.name, stem.type, stem.output_shape) == ("conv1", "Conv2d", (64, 32, 32))
    assert stem.arguments == {
        "in_channels": 3,
        "out_channels": 64,
        "kernel_size": 7,
        "stride": 2,
        "padding": 3,
    }
    assert (head.name, head.arguments) == ("fc", {"in_features": 512, "out_features": 10})


def test_parameters_that_belong_to_no_layer_have_a_row() -> None:
    layers = {layer.name: layer for layer in plan("vit_b_32", 64).layers}
    assert layers["class_token"].parameters == 768
    assert layers["encoder"].parameters == (1 + 2 * 2) * 768  # the positions
    attention = layers["encoder.layers.encoder_layer_0.self_attention"]
    assert attention.parameters == sum(
        value.numel() for value in nn.MultiheadAttention(768, 12).parameters()
    )


class TestSizes:
    @pytest.mark.parametrize(
        ("name", "smallest"),
        [
            ("alexnet", 63),
            ("vgg11", 32),
            ("squeezenet1_1", 17),
            ("resnet18", 1),
        ],
    )
    def test_smallest_is_what_torchvision_says(self, name: str, smallest: int) -> None:
        assert models.get_model_weights(name).DEFAULT.meta["min_size"] == (smallest, smallest)
        assert zoo.smallest(name) == smallest

    def test_a_smaller_image_is_told_how_large_it_must_be(self) -> None:
        found = misfit("VGG11", 31)
        assert "vgg11 cannot take images of 31 x 31 pixels" in found.detail
        assert found.hint == "Use an image_size of 32 or more."
        assert plan("vgg11", 32, height=33).parameters

    @pytest.mark.parametrize(("side", "near"), [(30, 32), (100, 96), (5, 32)])
    def test_a_vision_transformer_is_told_a_multiple(self, side: int, near: int) -> None:
        assert f"multiple of 32, such as {near}." in misfit("vit_b_32", side).hint
        assert plan("vit_b_32", near).parameters

    def test_a_vision_transformer_takes_squares(self) -> None:
        assert "square" in misfit("vit_b_32", 64, height=32).hint

    def test_what_takes_hardly_any_size_is_told_its_own(self) -> None:
        assert misfit("maxvit_t", 100).hint == "Use the size it was made for: 224."
        assert plan("maxvit_t", 448).parameters


def test_a_network_says_what_it_is() -> None:
    assert zoo.summary("resnet18") == "torchvision's resnet18: 11.7 M parameters, 3.6 GFLOPs."


def test_mnasnet_takes_weights_that_do_not_say_their_version() -> None:
    network = architectures.build(plan("mnasnet0_5", 32))
    network.load_state_dict(dict(network.state_dict()))
