"""The manifest beside the weights: all that is needed to use them right, as plain JSON.

Architecture, input and preprocessing, classes in order, recipe, metrics, versions, and the
checksum of each file. Knows neither torch nor where checkpoints lie.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from models_store.fields import Normalize
from models_store.pipeline import Pair, size_of
from models_store.transforms import ShapingTransform


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Preprocessing(_Record):
    """From a decoded image to the network's input: invert, resize to `height` x `width`, transforms
    (the recipe's `eval` list), scale to 0..1, normalize.
    """

    height: int
    width: int
    channels: Literal[1, 3]
    transforms: list[ShapingTransform] = []
    normalize: Normalize | None = None
    invert_from_border: float | None = Field(
        None,
        description="Mean border brightness (0 to 1) of the training images; an image whose border "
        "is more than 0.5 away is inverted before resizing. null: never.",
    )
    trained_height: int = Field(description="Typical height of the training images as they lay.")
    trained_width: int = Field(description="Typical width of the training images as they lay.")

    @property
    def input_size(self) -> Pair:
        """(height, width) of what the network gets."""
        return size_of((self.height, self.width), self.transforms)


class Manifest(_Record):
    """What a checkpoint says of itself."""

    format: Literal[1] = 1
    id: str
    job_id: str | None = Field(description="null: it was imported.")
    architecture: str | dict[str, Any] = Field(description="A name, or a list of layers.")
    classes: list[str]
    preprocessing: Preprocessing
    recipe: dict[str, Any]
    dataset: dict[str, str | None]
    epoch: int
    metrics: dict[str, int | float | None]
    made_with: dict[str, str] = Field(
        description="Versions, device, precision and thread count of the run."
    )
    created_at: datetime
    files: dict[str, str] = Field(
        default_factory=dict, description="sha256 of each file beside the manifest."
    )
