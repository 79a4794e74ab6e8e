"""Published weights: stand-ins of them, made by torchvision's own networks."""

import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models import VisionTransformer

from models_store import pretrained, recipe, zoo
from models_store.fields import Normalize, Recipe, SubmittedRecipe
from problems import Problem

IMAGENET = Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])


@pytest.fixture
def resolve(facts: Any) -> Any:
    """Resolves a body for a colour data set of 32 px, which may have `defaults`."""

    def resolve(defaults: Mapping[str, Any] | None = None, **body: Any) -> Recipe:
        submitted = SubmittedRecipe.model_validate({"dataset": "own", **body})
        shape = {"channels": 3, "height": 32, "width": 32}
        return recipe.resolve(submitted, facts(**shape, defaults=defaults or {}))

    return resolve


def build(name: str, *, channels: int = 3, side: int = 96) -> nn.Module:
    torch.manual_seed(5)
    return zoo.build(name, channels=channels, size=(side, side), classes=3)


def stand_in(name: str, **options: Any) -> "OrderedDict[str, torch.Tensor]":
    """A state_dict as torchvision publishes it, for 1000 classes."""
    torch.manual_seed(1)
    return models.get_model(name, weights=None, **options).state_dict()


def refused(resolve: Any, field: str, **body: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        resolve(**body)
    assert caught.value.code == "invalid_request"
    assert caught.value.errors[0]["loc"] == ["body", field]
    return caught.value


@pytest.mark.parametrize("name", zoo.names())
def test_every_network_has_weights_with_a_checksum(name: str) -> None:
    found = pretrained.published(name)
    assert found is not None
    assert re.fullmatch("[0-9a-f]{8,}", found.sha256)
    assert found.sha256 in found.file
    assert found.url.endswith(f"/{found.file}")
    assert found.bytes > 4 * models.get_model_weights(name).DEFAULT.meta["num_params"]
    assert len(found.mean) == len(found.std) == 3
    assert found.size >= 224


class TestRecipe:
    def test_size_and_normalization_are_the_weights_own(self, resolve: Any) -> None:
        resolved = resolve(architecture="ResNet18", pretrained=True)
        assert resolved.image_size == 224
        assert resolved.normalize == IMAGENET
        assert resolve(architecture="efficientnet_b3", pretrained="auto").image_size == 300

    def test_what_is_given_stands(self, resolve: Any) -> None:
        given = {"image_size": 64, "normalize": None}
        resolved = resolve(architecture="resnet18", pretrained=True, **given)
        assert (resolved.image_size, resolved.normalize) == (64, None)

    def test_grey_images_have_the_mean_of_the_channels(self, resolve: Any) -> None:
        resolved = resolve(architecture="resnet18", pretrained=True, channels=1)
        assert resolved.normalize == Normalize(mean=[0.449], std=[0.226])

    def test_networks_that_came_from_elsewhere_have_pixels_around_zero(self, resolve: Any) -> None:
        """What torchvision's `transform_input` makes of its usual normalization."""
        resolved = resolve(architecture="googlenet", pretrained=True)
        theirs = models.googlenet(init_weights=False, transform_input=True)
        pixels = torch.rand(2, 3, 4, 4)

        def normalized(by: Normalize) -> torch.Tensor:
            mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in (by.mean, by.std))
            return (pixels - mean) / std

        torch.testing.assert_close(
            normalized(resolved.normalize), theirs._transform_input(normalized(IMAGENET))
        )

    def test_posted_back_it_is_the_same(self, resolve: Any) -> None:
        resolved = resolve(architecture="resnet18", pretrained=True, head_lr=0.1)
        assert resolve(**resolved.model_dump(mode="json")) == resolved

    def test_a_default_is_about_the_default_network(self, resolve: Any) -> None:
        defaults = {"architecture": "resnet18", "pretrained": "auto", "image_size": 224}
        assert resolve(defaults).pretrained == "auto"
        assert resolve(defaults, architecture="RESNET18").pretrained == "auto"
        other = resolve(defaults, architecture="cifar10_net")
        assert (other.pretrained, other.normalize) == (False, None)
        assert resolve(defaults, pretrained=False).normalize is None

    @pytest.mark.parametrize("recipe", ["cifar10-fast", "mnist-fast"])
    def test_a_ready_made_recipe_may_name_another_network(self, resolve: Any, recipe: str) -> None:
        defaults = {"architecture": "resnet18", "pretrained": "auto"}
        resolved = resolve(defaults, recipe=recipe, batch_size=64)
        assert resolved.pretrained is False
        assert resolve(defaults, **resolved.model_dump(mode="json")) == resolved

    def test_nothing_is_frozen_and_no_rate_is_the_heads_by_default(self, resolve: Any) -> None:
        resolved = resolve()
        assert (resolved.pretrained, resolved.freeze_backbone) == (False, False)
        assert resolved.head_lr is None

    @pytest.mark.parametrize("wanted", [True, "auto"])
    def test_our_own_networks_have_no_weights(self, resolve: Any, wanted: Any) -> None:
        found = refused(resolve, "pretrained", architecture="mnist_net", pretrained=wanted)
        assert "mnist_net has no published weights" in found.detail

    def test_our_own_networks_have_no_head(self, resolve: Any) -> None:
        refused(resolve, "freeze_backbone", architecture="mnist_net", freeze_backbone=True)
        refused(resolve, "head_lr", architecture="mnist_net", head_lr=0.1)

    @pytest.mark.parametrize("wanted", [False, "auto"])
    def test_a_random_backbone_is_not_frozen(self, resolve: Any, wanted: Any) -> None:
        body = {"architecture": "resnet18", "freeze_backbone": True, "pretrained": wanted}
        hint = refused(resolve, "freeze_backbone", **body).hint
        assert hint == "Say pretrained: true as well, or init_from."

    def test_a_ratio_to_nothing_is_none(self, resolve: Any) -> None:
        refused(resolve, "head_lr", architecture="resnet18", head_lr=0.1, lr=0)

    def test_an_unknown_network_is_that_first(self, resolve: Any) -> None:
        with pytest.raises(Problem) as caught:
            resolve(architecture="resnet-81", pretrained=True)
        assert caught.value.code == "architecture_unknown"


class TestFill:
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("squeezenet1_1", {}),
            ("mobilenet_v3_small", {}),
            ("shufflenet_v2_x0_5", {}),
            ("mnasnet0_5", {}),
            ("regnet_y_400mf", {}),
            ("googlenet", {"init_weights": False, "aux_logits": True}),
        ],
    )
    def test_all_but_the_head_is_theirs(self, name: str, options: dict[str, Any]) -> None:
        network, state = build(name), stand_in(name, **options)
        drawn = {key: value.clone() for key, value in network.state_dict().items()}

        pretrained.fill(network, name, state)

        for key, value in network.state_dict().items():
            expected = drawn if key in zoo.head(name) else state
            assert torch.equal(value, expected[key]), key

    def test_a_grey_network_sees_what_theirs_sees(self) -> None:
        state = stand_in("squeezenet1_1")
        grey, colour = build("squeezenet1_1", channels=1).eval(), build("squeezenet1_1").eval()
        for one in (grey, colour):
            pretrained.fill(one, "squeezenet1_1", state)
        images = torch.rand(2, 1, 40, 40)
        with torch.no_grad():
            torch.testing.assert_close(
                grey.features(images), colour.features(images.expand(2, 3, 40, 40))
            )

    def test_densenets_of_old_had_dots_in_their_names(self) -> None:
        network, state = build("densenet121", side=32), stand_in("densenet121")
        old = {
            re.sub(r"(norm|conv)([12])\.(?=[a-z_]+$)", r"\1.\2.", k): v for k, v in state.items()
        }
        assert "features.denseblock1.denselayer1.norm.1.weight" in old

        pretrained.fill(network, "densenet121", old)

        key = "features.denseblock4.denselayer16.conv2.weight"
        assert torch.equal(network.state_dict()[key], state[key])

    @pytest.mark.parametrize("side", [64, 128])
    def test_a_vision_transformer_takes_another_size(self, side: int) -> None:
        small = {"patch_size": 32, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 8}
        torch.manual_seed(2)
        theirs = VisionTransformer(image_size=64, **small).state_dict()
        network = VisionTransformer(image_size=side, **small, num_classes=3)

        pretrained.fill(network, "vit_b_32", theirs)

        ours = network.state_dict()["encoder.pos_embedding"]
        assert torch.equal(ours[:, 0], theirs["encoder.pos_embedding"][:, 0])  # the class token's
        corners = [1, -1]
        if side == 64:
            assert torch.equal(ours[:, corners], theirs["encoder.pos_embedding"][:, corners])
        else:
            torch.testing.assert_close(
                ours[:, corners], theirs["encoder.pos_embedding"][:, corners]
            )

    @pytest.mark.parametrize("harm", ["absent", "shape"])
    def test_what_does_not_fit_is_refused_and_changes_nothing(self, harm: str) -> None:
        network, state = build("squeezenet1_1"), stand_in("squeezenet1_1")
        key = "features.3.squeeze.weight"
        if harm == "absent":
            del state[key]
        else:
            state[key] = state[key][:, :1]
        before = network.state_dict()["features.0.weight"].clone()

        with pytest.raises(Problem) as caught:
            pretrained.fill(network, "squeezenet1_1", state)

        assert caught.value.code == "weights_unavailable"
        assert key in caught.value.detail
        assert torch.equal(network.state_dict()["features.0.weight"], before)


class TestRead:
    def test_a_file_of_weights(self, tmp_path: Path) -> None:
        state = stand_in("squeezenet1_1")
        torch.save(state, tmp_path / "weights.pth")

        found = pretrained.read(tmp_path / "weights.pth")

        assert found.keys() == state.keys()
        # Where PyTorch keeps the version of each module; no type tells of it.
        assert found._metadata == state._metadata  # type: ignore[attr-defined]

    @pytest.mark.parametrize("held", ["nothing", "noise", "code", "a list"])
    def test_anything_else_is_refused(self, held: str, tmp_path: Path) -> None:
        path = tmp_path / "weights.pth"
        if held == "nothing":
            path.write_bytes(b"")
        elif held == "noise":
            path.write_bytes(b"noise" * 100)
        elif held == "code":
            torch.save({"a": Path}, path)
        else:
            torch.save([torch.zeros(1)], path)

        with pytest.raises(Problem) as caught:
            pretrained.read(path)

        assert caught.value.code == "weights_unavailable"
