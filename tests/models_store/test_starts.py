"""A network that starts from a checkpoint: what follows from it, what must fit, what is new."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from models_store import architectures, recipe, starts
from models_store.fields import Normalize
from models_store.manifest import Manifest
from models_store.recipe import SubmittedRecipe
from problems import Problem

_NORMALIZE = {"mean": [0.5], "std": [0.25]}
_OWN = {
    "layers": [
        {"type": "Conv2d", "out_channels": 4, "kernel_size": 3},
        {"type": "ReLU"},
        {"type": "Flatten"},
        {"type": "Linear", "out_features": 10},
    ]
}


@pytest.fixture
def start(manifest: Callable[..., Manifest]) -> Manifest:
    """A mnist_net for 24 x 20 pixels."""
    shape = {"height": 30, "width": 20, "normalize": _NORMALIZE}
    crop = {"type": "CenterCrop", "size": [24, 20]}
    return manifest(id="ckpt_old", preprocessing={**shape, "transforms": [crop]})


def _resolve(facts: Any, start: Manifest, **given: Any) -> recipe.Recipe:
    asked = {"dataset": "own", "init_from": start.id, **given}
    return recipe.resolve(SubmittedRecipe.model_validate(asked), facts(), start=start)


def _plan(found: recipe.Recipe, classes: int) -> architectures.Plan:
    return architectures.plan(
        found.architecture, channels=found.channels, size=found.input_size, classes=classes
    )


def test_network_and_images_follow_from_the_checkpoint(facts: Any, start: Manifest) -> None:
    found = _resolve(facts, start)
    assert found.init_from == "ckpt_old"
    assert (found.architecture, found.size, found.channels) == ("mnist_net", (24, 20), 1)
    assert found.normalize == Normalize.model_validate(_NORMALIZE)
    starts.check(_plan(found, 3), start)
    again = recipe.resolve(
        SubmittedRecipe.model_validate(found.model_dump(mode="json")), facts(), start=start
    )
    assert again == found


def test_what_is_said_goes_first(facts: Any, start: Manifest) -> None:
    found = _resolve(facts, start, normalize="auto", image_size=[24, 20], channels=1)
    assert found.normalize == "auto"


def test_a_checkpoint_goes_before_what_a_ready_made_recipe_says(
    facts: Any, start: Manifest
) -> None:
    found = _resolve(facts, start, recipe="fine-tune")
    assert (found.architecture, found.size, found.pretrained) == ("mnist_net", (24, 20), False)
    assert (found.optimizer["name"], found.head_lr) == ("AdamW", 0.003)
    starts.check(_plan(found, 3), start)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"architecture": "lenet5"}, "8 missing"),
        ({"image_size": 28}, "model.6.weight"),
        ({"channels": 3}, "model.0.weight"),
    ],
)
def test_another_network_is_refused(
    facts: Any, start: Manifest, given: dict[str, Any], told: str
) -> None:
    with pytest.raises(Problem, match=told) as caught:
        starts.check(_plan(_resolve(facts, start, **given), 10), start)
    assert caught.value.code == "weights_misfit"
    assert "The network is another than that of ckpt_old." in caught.value.detail
    assert caught.value.errors[0]["loc"][:2] == ["body", "init_from"]


def test_the_last_layer_of_a_list_takes_other_classes(
    facts: Any, manifest: Callable[..., Manifest]
) -> None:
    start = manifest(architecture=_OWN)
    found = _resolve(facts, start)
    assert isinstance(found.architecture, dict)
    assert found.architecture["layers"][-1] == {"type": "Linear"}
    starts.check(_plan(found, 3), start)
    assert starts.anew(_plan(found, 3), start, ["a", "b", "c"]) == [
        "model.3.bias",
        "model.3.weight",
    ]
    assert starts.anew(_plan(found, 10), start, start.classes) == []


def _with_end(*end: dict[str, Any]) -> dict[str, Any]:
    return {"layers": [*_OWN["layers"][:-1], *end]}


_TEN = {"type": "Linear", "out_features": 10}


@pytest.mark.parametrize(
    ("end", "head"),
    [
        ([_TEN, {"type": "Dropout", "p": 0.5}], "model.3"),
        ([{"type": "Linear", "out_features": 8}, _TEN, {"type": "Sigmoid"}], "model.4"),
        ([_TEN, {"type": "Residual", "layers": [{"type": "ReLU"}]}], "model.3"),
    ],
)
def test_the_last_linear_need_not_be_the_last_layer(
    end: list[dict[str, Any]], head: str, facts: Any, manifest: Callable[..., Manifest]
) -> None:
    start = manifest(architecture=_with_end(*end))
    found = _resolve(facts, start)
    planned = _plan(found, 3)
    starts.check(planned, start)
    assert starts.anew(planned, start, ["a", "b", "c"]) == [f"{head}.bias", f"{head}.weight"]
    assert starts.anew(_plan(found, 10), start, start.classes) == []
    assert start.architecture == _with_end(*end)


def test_the_last_linear_may_be_in_a_residual(
    facts: Any, manifest: Callable[..., Manifest]
) -> None:
    """What it is added to says the number too, so that no other can be meant."""
    start = manifest(architecture=_with_end({**_TEN}, {"type": "Residual", "layers": [_TEN]}))
    found = _resolve(facts, start)
    starts.check(_plan(found, 10), start)
    with pytest.raises(Problem, match="cannot be added"):
        _plan(found, 3)


def test_a_linear_that_makes_no_classes_is_left_as_it_is(
    facts: Any, manifest: Callable[..., Manifest]
) -> None:
    """Of 28 x 28 numbers 2 x 5, which are the ten classes together."""
    layers = [
        {"type": "Linear", "out_features": 5},
        {"type": "AdaptiveAvgPool2d", "output_size": [2, 5]},
        {"type": "Flatten"},
    ]
    start = manifest(architecture={"layers": layers})
    found = _resolve(facts, start)
    assert found.architecture == start.architecture
    starts.check(_plan(found, 10), start)


@pytest.mark.parametrize("differing", [{"image_size": [20, 20]}, {"bias": True}])
def test_a_head_of_another_shape_is_new_for_the_same_classes(
    differing: dict[str, Any],
    facts: Any,
    manifest: Callable[..., Manifest],
    network: Callable[[Manifest], nn.Module],
) -> None:
    *before, last = _OWN["layers"]
    start = manifest(architecture={"layers": [*before, {**last, "bias": False}]})
    given = {"architecture": _OWN} if "bias" in differing else differing
    planned = _plan(_resolve(facts, start, **given), 10)
    starts.check(planned, start)
    anew = starts.anew(planned, start, start.classes)
    assert "model.3.weight" in anew
    starts.fill(architectures.build(planned), network(start).state_dict(), but=anew)


@pytest.mark.parametrize("classes", [10, 3])
def test_fill(
    classes: int,
    facts: Any,
    manifest: Callable[..., Manifest],
    network: Callable[[Manifest], nn.Module],
) -> None:
    start = manifest()
    theirs = network(start).state_dict()
    planned = _plan(_resolve(facts, start), classes)
    names = start.classes if classes == 10 else ["a", "b", "c"]
    torch.manual_seed(5)
    ours = architectures.build(planned)
    drawn = {key: value.clone() for key, value in ours.state_dict().items()}
    anew = starts.anew(planned, start, names)
    starts.fill(ours, theirs, but=anew)
    for key, value in ours.state_dict().items():
        assert torch.equal(value, drawn[key] if key in anew else theirs[key]), key
    assert bool(anew) == (classes == 3)


def test_one_start_is_enough(facts: Any, start: Manifest) -> None:
    with pytest.raises(Problem, match="Both pretrained and init_from") as caught:
        _resolve(facts, start, pretrained=True)
    assert caught.value.errors[0]["loc"] == ["body", "pretrained"]
    assert _resolve(facts, start, pretrained=False).pretrained is False


def test_the_backbone_of_any_network_can_be_frozen_then(facts: Any, start: Manifest) -> None:
    found = _resolve(facts, start, freeze_backbone=True, head_lr=0.1)
    assert (found.freeze_backbone, found.head_lr) == (True, 0.1)
    assert found.architecture == "mnist_net"
    asked = {"dataset": "own", "architecture": "mnist_net", "freeze_backbone": True}
    with pytest.raises(Problem, match="no head apart"):
        recipe.resolve(SubmittedRecipe.model_validate(asked), facts())
