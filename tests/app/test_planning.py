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
