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
