"""From a submitted recipe to a checked plan: every default filled in, every layer's shape known.

Reads facts about data sets, never their images. Needs torch, which must be warm. Makes no job.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from data_store import catalog
from data_store.built_in import SETS
from data_store.catalog import Facts
from database import checkpoints, ids, jobs, processes
from database.tables import Job, State
from models_store import misfits
from models_store import recipe as recipes
from models_store.fields import Recipe, SubmittedRecipe
from models_store.manifest import Manifest
from problems import Problem, match
from settings import Settings

if TYPE_CHECKING:
    from models_store.architectures import Plan

_LOOKED_BACK = 50  # succeeded jobs that an estimate may rest on


@dataclass(frozen=True, slots=True)
class Planned:
    """A recipe that can be run. `images` counts those trained on in each epoch."""

    recipe: Recipe
    network: "Plan"
    images: int

    @property
    def steps(self) -> int:
        """Batches of the whole run."""
        whole, rest = divmod(self.images, self.recipe.batch_size)
        # BatchNorm cannot be trained on one image: the last one joins the batch before.
        joins = rest == 1 and whole and self.network.normalises_batches
        if rest and not joins and not self.recipe.data_loader.drop_last:
            whole += 1
        return whole * self.recipe.epochs


def plan(submitted: SubmittedRecipe, settings: Settings) -> Planned:
    """Raises `Problem` for names that do not exist, values that do not go together, layers that
    do not fit (layers_misfit), images that the network cannot take (network_misfit), and a
    checkpoint of another network (weights_misfit).
    """
    facts = _facts(recipes.wanted_dataset(submitted), settings)
    start = None if submitted.init_from is None else _start(submitted.init_from, settings)
    resolved = recipes.resolve(submitted, facts, start=start)
    network = _network(resolved, classes=len(facts.classes))
    if start is not None:
        _check_start(network, start)
    recipe = resolved.model_copy(update={"architecture": network.architecture})
    images = misfits.trained(recipe, facts.counts["train"])
    if network.normalises_batches:
        recipes.check_batches(recipe, images)
    check_optimizer(recipe, network)
    return Planned(recipe, network, images)


def check_optimizer(recipe: Recipe, network: "Plan") -> None:
    """Raises `Problem` invalid_request where Muon would find no weight to train."""
    from models_store import architectures, heads

    if recipe.optimizer["name"] != "Muon":
        return
    outline = architectures.outline(network)
    weights = dict(outline.named_parameters())
    if recipe.freeze_backbone:
        weights = {key: weights[key] for key in heads.of(network.architecture, outline)}
    if not any(weight.ndim == 2 for weight in weights.values()):
        raise misfits.no_matrices()


def check_no_job(session: Session, init_from: str | None) -> None:
    """Raises `Problem` checkpoint_not_found where a training is to start from a job, which has many
    checkpoints, with the id of its best one.
    """
    if init_from is None or not ids.is_job(init_from):
        return
    try:
        best = jobs.get(session, init_from).best_checkpoint_id
    except Problem:  # no job either
        return
    hint = (
        f"Its best one: {best}." if best else "It has none so far: GET /checkpoints lists others."
    )
    problem = Problem("checkpoint_not_found", f"{init_from} is a job, not a checkpoint.", hint=hint)
    raise _at("init_from", problem)


def check_there(session: Session, recipe: Recipe, settings: Settings) -> None:
    """Raises `Problem` dataset_unknown, checkpoint_not_found for what was deleted since the recipe
    was planned: in a transaction that writes nothing more is.
    """
    name = recipe.dataset
    if name not in SETS and catalog.own(name, settings.datasets) != name:
        raise _at("dataset", Problem("dataset_unknown", f"There is no data set named {name!r}."))
    if recipe.init_from is not None:
        try:
            checkpoints.get(session, recipe.init_from)
        except Problem as problem:
            raise _at("init_from", problem) from None


def check_goes_on(session: Session, job: Job, settings: Settings) -> None:
    """Raises `Problem` dataset_unknown, dataset_invalid, dataset_changed where a job that is to be
    resumed would fail: its data set is gone, or has other classes.
    """
    from models_store import checkpoints as files  # torch

    if job.kind != "train" or job.dataset_name is None:
        return
    classes = catalog.facts(job.dataset_name, settings.datasets).classes
    newest = checkpoints.newest_of(session, job.id)
    if newest is None:
        return
    try:
        known = files.read_manifest(settings.checkpoints / newest.id).classes
    except Problem:  # the job looks for an older one
        return
    misfits.check_classes(known, classes)


def check_devices(session: Session, recipe: Recipe) -> None:
    """Raises `Problem` device_unavailable when no worker that is alive has the devices: of that
    kind, for that precision, so many. Where none says what it has, the job will find out.
    """
    kind = "cuda" if recipe.precision in misfits.NEED_CUDA else recipe.device
    told = [row.info for row in processes.alive(session) if row.info.get("devices")]
    there = [misfits.devices_there(kind, info["devices"], cores=info["cores"]) for info in told]
    if not there or max(there) >= recipe.devices:
        return
    if max(there):
        raise misfits.too_many_devices(recipe, max(there))
    has = ", ".join(sorted({name.partition(":")[0] for info in told for name in info["devices"]}))
    if recipe.device == "auto":  # each worker has some device
        raise misfits.no_precision(recipe.precision, has)
    raise misfits.no_device(recipe.device, has)


def _network(recipe: Recipe, *, classes: int) -> "Plan":
    from models_store import architectures

    try:
        return architectures.plan(
            recipe.architecture, channels=recipe.channels, size=recipe.input_size, classes=classes
        )
    except Problem as misfit:
        if misfit.code != "network_misfit" or recipe.input_size == recipe.size:
            raise
        height, width = recipe.input_size
        raise Problem(
            misfit.code,
            misfit.detail,
            hint=f"transforms end in {height} x {width}, and that counts here. {misfit.hint}",
            errors=[{"loc": ["body", "transforms"], "msg": "end in a size that does not fit"}],
        ) from None


def _start(checkpoint_id: str, settings: Settings) -> Manifest:
    """What the checkpoint that is started from says of itself.

    Raises `Problem` checkpoint_not_found, checkpoint_damaged.
    """
    from models_store import checkpoints as files  # torch

    try:
        if not ids.is_checkpoint(checkpoint_id):
            raise Problem("checkpoint_not_found", f"There is no checkpoint {checkpoint_id[:80]!r}.")
        return files.read_manifest(settings.checkpoints / checkpoint_id)
    except Problem as problem:
        raise _at("init_from", problem) from None


def _check_start(network: "Plan", start: Manifest) -> None:
    from models_store import starts

    starts.check(network, start)


def _facts(name: str, settings: Settings) -> Facts:
    try:
        return catalog.facts(name, settings.datasets, cache=settings.cache)
    except Problem as problem:
        meant = match(name, recipes.READY_MADE) if problem.code == "dataset_unknown" else None
        hint = meant and f'It is a recipe: {{"recipe": "{meant}"}}, or danlu train recipe={meant}.'
        raise _at("dataset", problem, hint=hint) from None


def _at(field: str, problem: Problem, *, hint: str | None = None) -> Problem:
    return Problem(
        problem.code,
        problem.detail,
        hint=hint or problem.hint,
        errors=[{"loc": ["body", field], "msg": problem.kind.title}],
    )


def estimated_seconds(session: Session, planned: Planned) -> float | None:
    """Of training alone, by the newest job of the same network and size; None without one."""
    done = jobs.find(session, states=[State.succeeded], kind="train", limit=_LOOKED_BACK)
    wanted = planned.recipe
    judged = wanted.transforms.model_dump(mode="json")["eval"]
    for row in done.items:
        recipe, speed = row.recipe or {}, (row.progress or {}).get("images_per_second")
        alike = (
            recipe.get("architecture") == wanted.architecture  # a list as JSON, too
            and recipe.get("image_size") == wanted.image_size
            and (recipe.get("transforms") or {}).get("eval", []) == judged
        )
        if alike and speed:
            seconds = planned.images * wanted.epochs / float(speed)
            return round(min(seconds, wanted.max_seconds or seconds), 1)
    return None
