"""What a script is written from: the recipe, and what of the run and its data the recipe leaves
open. Plain data, without torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models_store import misfits
from models_store.fields import Computed, Normalize, Recipe
from models_store.pipeline import Pair

_MANY = 10_000  # images; fewer are read faster than processes that read them are started
_LARGE = 64  # px


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A set of torchvision's, by the name of its class in `torchvision.datasets`; None: the digits
    of scikit-learn.
    """

    reader: str | None


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder per class: where each part lies below it, `.` for one without parts. `unusual`: not
    every file in it is an image that ImageFolder would take.
    """

    parts: Mapping[str, str]
    unusual: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """All that a script is written from. `counts` and the size are those of the images as they lie;
    `normalize` is what was measured, if the recipe says `auto`.
    """

    job: str
    recipe: Recipe
    source: BuiltIn | Folder
    classes: Sequence[str]
    counts: Mapping[str, int]
    height: int
    width: int
    channels: int
    normalize: Normalize | None = None
    precision: Computed = "fp32"
    pretrained: bool = False
    new_head: bool = False  # the checkpoint that it started from has other classes

    @property
    def size(self) -> Pair:
        """(height, width) that images are resized to, whole."""
        return self.recipe.size

    @property
    def is_folder(self) -> bool:
        """Whether the images are files."""
        return isinstance(self.source, Folder)

    @property
    def judged_at_the_end(self) -> bool:
        """Whether there is a test part that does not choose the best checkpoint already."""
        return self.recipe.validation != "test" and (
            self.recipe.test is not None or bool(self.counts.get("test"))
        )

    @property
    def loaders(self) -> int:
        """Processes that load images; none for those that are loaded in no time."""
        asked = self.recipe.data_loader.num_workers
        if asked != "auto":
            return asked
        large = max(self.height, self.width, *self.size) > _LARGE
        return 2 if large or self.counts["train"] >= _MANY else 0

    @property
    def trained(self) -> int:
        """Images that are trained on."""
        return misfits.trained(self.recipe, self.counts["train"])
