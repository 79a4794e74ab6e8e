"""The examples of the documentation are answers that the server could give."""

import pytest
from pydantic import BaseModel

from app import aliases, examples, predictions, schemas
from app.errors import ProblemRead
from app.routes import architectures, datasets, recipes, system
from models_store.manifest import Manifest

SHOWN = [
    (ProblemRead, examples.PROBLEM),
    (schemas.JobItem, examples.JOB_ITEM),
    (schemas.JobRead, examples.JOB),
    (schemas.HistoryRead, examples.HISTORY),
    (schemas.PlanRead, examples.PLAN),
    (schemas.CheckpointItem, examples.CHECKPOINT_ITEM),
    (Manifest, examples.MANIFEST),
    (predictions.AnswerRead, examples.ANSWER),
    (aliases.ModelRead, examples.MODEL),
    (datasets.DataSetItem, examples.DATA_SET_ITEM),
    (datasets.DataSetRead, examples.DATA_SET),
    (datasets.DataSetImageRead, examples.DATA_SET_IMAGE),
    (architectures.ArchitectureItem, examples.ARCHITECTURE_ITEM),
    (architectures.ArchitectureRead, examples.ARCHITECTURE),
    (recipes.RecipeItem, examples.RECIPE_ITEM),
    (system.ReadinessRead, examples.READINESS),
    (system.SystemRead, examples.SYSTEM),
]


@pytest.mark.parametrize(("model", "example"), SHOWN)
def test_an_example_is_whole_and_valid(model: type[BaseModel], example):
    assert model.model_validate(example).model_dump(mode="json") == example
