"""From a submitted recipe to a plan; what is asked for over HTTP is in routes/test_train."""

import pytest

from app import planning
from models_store.fields import SubmittedRecipe
from problems import Problem


def test_a_plan_has_every_default_and_every_shape(settings):
    planned = planning.plan(SubmittedRecipe(dataset="digits"), settings)
    assert planned.recipe.architecture == planned.network.architecture == "mnist_net"
    assert planned.network.layers[-1].output_shape == (10,)
    assert planned.images == 1437 - 144


def test_a_plan_that_cannot_be_run_is_refused(settings):
    with pytest.raises(Problem) as caught:
        planning.plan(SubmittedRecipe(dataset="digits", image_size=5), settings)
    assert caught.value.code == "network_misfit"


def test_the_network_is_planned_for_what_the_transforms_make(settings):
    lists = {"train": [{"type": "RandomCrop", "size": [20, 24]}]}
    planned = planning.plan(SubmittedRecipe(dataset="digits", transforms=lists), settings)
    assert planned.network.input_shape == (1, 20, 24)
    assert planned.recipe.size == (28, 28)


def test_transforms_that_end_too_small_are_named(settings):
    lists = {"train": [{"type": "Resize", "size": 6}]}
    with pytest.raises(Problem) as caught:
        planning.plan(SubmittedRecipe(dataset="digits", transforms=lists), settings)
    assert caught.value.code == "network_misfit"
    assert caught.value.hint.startswith("transforms end in 6 x 6, and that counts here.")
    assert caught.value.errors[0]["loc"] == ["body", "transforms"]


def test_muon_has_nothing_of_a_frozen_backbone(settings):
    """Whose weights may have two dimensions, where those of the head have four."""
    layers = [
        {"type": "Linear", "out_features": 8},
        {"type": "Conv2d", "out_channels": 10, "kernel_size": 3},
        {"type": "AdaptiveAvgPool2d", "output_size": 1},
        {"type": "Flatten"},
    ]
    asked = SubmittedRecipe(dataset="digits", optimizer="Muon", architecture={"layers": layers})
    planned = planning.plan(asked, settings)
    frozen = planned.recipe.model_copy(update={"freeze_backbone": True})
    with pytest.raises(Problem, match="weights of two dimensions") as caught:
        planning.check_optimizer(frozen, planned.network)
    assert caught.value.errors[0]["loc"] == ["body", "optimizer", "name"]
