"""What is known of jobs on small pictures, from the words that a test cares about."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from models_store import recipe as recipes
from models_store import script
from models_store.recipe import SubmittedRecipe


@dataclass(frozen=True)
class Facts:
    """Of a folder of grey pictures."""

    name: str = "shapes"
    classes: Sequence[str] = ("left", "right", "up")
    counts: Mapping[str, int] = field(default_factory=lambda: {"train": 60, "test": 16})
    height: int = 28
    width: int = 28
    channels: int = 1
    defaults: Mapping[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="session")
def known() -> Callable[..., script.Known]:
    """`about` is what is known beside the recipe."""

    def known(about: Mapping[str, Any] | None = None, **given: Any) -> script.Known:
        facts = Facts(**{k: v for k, v in (about or {}).items() if k == "counts"})
        submitted = SubmittedRecipe.model_validate({"dataset": "shapes", "seed": 0, **given})
        recipe = recipes.resolve(submitted, facts)
        described: dict[str, Any] = {
            "job": "job_1",
            "recipe": recipe,
            "source": script.Folder({"train": "train", "test": "test"}),
            "classes": facts.classes,
            "counts": facts.counts,
            "height": facts.height,
            "width": facts.width,
            "channels": facts.channels,
            "normalize": recipe.normalize,
        }
        return script.Known(**(described | dict(about or {})))

    return known
