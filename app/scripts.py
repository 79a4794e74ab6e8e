"""The script of a job: what its row, its best checkpoint and its data set say, put together.

Writing it is `models_store.script`'s. Blocks, so it is called in threads.
"""

from dataclasses import dataclass

from pydantic import ValidationError
from sqlalchemy.orm import Session

from data_store import catalog, folder, origin
from data_store.built_in import SETS
from database import checkpoints as rows
from database.tables import Job
from models_store import checkpoints, script
from models_store.fields import Computed, Normalize, Recipe
from models_store.layers import label
from models_store.manifest import Manifest
from problems import Problem
from settings import Settings

_COMPUTED: dict[str, Computed] = {"fp32": "fp32", "tf32": "tf32", "bf16": "bf16", "fp16": "fp16"}


@dataclass(frozen=True, slots=True)
class Script:
    """A file: its name and what is in it."""

    name: str
    text: str


def of_job(session: Session, job: Job, settings: Settings) -> Script:
    """Raises `Problem` no_script, dataset_unknown, dataset_invalid, checkpoint_damaged, and what
    `architectures.plan` raises when the data set has changed.
    """
    recipe = _recipe(job)
    manifest = _manifest(session, job, settings)
    facts = catalog.facts(recipe.dataset, settings.datasets)
    known = script.Known(
        job=job.id,
        recipe=recipe,
        source=_source(job, facts, settings),
        classes=facts.classes if manifest is None else tuple(manifest.classes),
        counts=facts.counts,
        height=facts.height,
        width=facts.width,
        channels=facts.channels,
        normalize=_normalize(job, recipe, manifest),
        precision=_precision(recipe, manifest),
        pretrained=bool(recipe.pretrained) and not _warned(job, "weights_unavailable"),
        new_head=_warned(job, "new_head"),
    )
    name = f"danlu-{label(recipe.architecture)}-{job.id}.py"
    return Script(name, script.write(known))


def _recipe(job: Job) -> Recipe:
    if job.kind != "train":
        raise Problem("no_script", f"{job.id} trains nothing: it is a job of kind {job.kind}.")
    try:
        return Recipe.model_validate(job.recipe)
    except ValidationError:
        raise Problem(
            "no_script", f"The recipe of {job.id} is of another version of danlu."
        ) from None


def _manifest(session: Session, job: Job, settings: Settings) -> Manifest | None:
    best = rows.best_of(session, job.id)
    return None if best is None else checkpoints.read_manifest(settings.checkpoints / best.id)


def _source(job: Job, facts: catalog.Facts, settings: Settings) -> script.BuiltIn | script.Folder:
    if facts.origin == "built_in":
        return script.BuiltIn(SETS[facts.name].reader)
    path = settings.datasets / facts.name
    # What was left out here, now or by the import, may still lie in the folder of who asks.
    found = [*job.warnings, *(origin.report(path) or {}).get("findings", ())]
    incomplete = any(one["code"] in ("unreadable_images", "files_left_out") for one in found)
    unusual = incomplete or not folder.is_image_folder(path)
    return script.Folder(folder.places(path), unusual=unusual)


def _normalize(job: Job, recipe: Recipe, manifest: Manifest | None) -> Normalize | None:
    if recipe.normalize != "auto":
        return recipe.normalize
    if manifest is None:
        raise Problem(
            "no_script", f"{job.id} has not measured yet how its images are to be normalized."
        )
    return manifest.preprocessing.normalize


def _precision(recipe: Recipe, manifest: Manifest | None) -> Computed:
    """What was computed in, if the job got so far; for `auto` PyTorch's own, as long as not."""
    made = "" if manifest is None else manifest.made_with.get("precision", "")
    return _COMPUTED.get(made) or _COMPUTED.get(recipe.precision, "fp32")


def _warned(job: Job, code: str) -> bool:
    return any(one["code"] == code for one in job.warnings)
