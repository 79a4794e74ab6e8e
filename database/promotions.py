"""What a recipe's `promote` does when its job has ended well: points an alias at its best
checkpoint, or says in a warning why not.

Belongs into the transaction that ends the job, so that a crash neither loses nor repeats it
(docs/decisions/0041). Knows nothing of files.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from database import aliases
from database.tables import Alias, Checkpoint, Job

REFUSED = "not_promoted"


def settle(session: Session, job: Job) -> None:
    """Promotes the best checkpoint of a job that succeeded, if its recipe asks for it."""
    wanted = (job.recipe or {}).get("promote")
    warnings = [one for one in job.warnings if one["code"] != REFUSED]
    if wanted is not None:
        refusal = _promote(session, job, wanted)
        warnings += [] if refusal is None else [{"code": REFUSED, "message": refusal}]
    if warnings != job.warnings:
        job.warnings = warnings
        session.flush()


def _promote(session: Session, job: Job, wanted: Mapping[str, Any]) -> str | None:
    """Why not, None when it is done."""
    name = wanted["alias"]
    best = session.get(Checkpoint, job.best_checkpoint_id or "", populate_existing=True)
    if best is None:
        return f"{name} stays as it is: the job has no checkpoint."
    if best.parity is None:
        return f"{name} stays as it is: {best.id} was not compared with what is served."
    if not best.parity:
        return f"{name} stays as it is: {best.id} does not serve as it was trained."
    present = session.get(Alias, name, populate_existing=True, with_for_update=True)
    if present is not None and wanted["if"] == "better":
        refusal = _not_better(session, job, best, present)
        if refusal is not None:
            return refusal
    aliases.point(session, name, best.id, by=job.owner)
    return None


def _not_better(session: Session, job: Job, best: Checkpoint, present: Alias) -> str | None:
    """Why `best` is not better than what the alias points at; None where it is, or is the same."""
    before = session.get_one(Checkpoint, present.checkpoint_id)
    if before.id == best.id:
        return None
    stays = f"{present.name} stays at {before.id}"
    of_before = None if before.job_id is None else session.get_one(Job, before.job_id)
    if of_before is None or _measured_on(of_before) != _measured_on(job):
        return (
            f"{stays}: that was not measured on the validation images of the same data set in the "
            f"same version, so nobody can say which is better. Compare them, then PUT the alias, "
            f'or train with "if": "always".'
        )
    ours, theirs = best.val_accuracy, before.val_accuracy
    if ours is None or (theirs is not None and ours <= theirs):
        return (
            f"{stays}: its validation accuracy is {_said(theirs)}, that of {best.id} {_said(ours)}."
        )
    return None


def _measured_on(job: Job) -> tuple[str | None, str | None, str]:
    """What the validation accuracies of two jobs must have in common to be compared. Which images
    a fraction draws, and how many, is chance.
    """
    validation = (job.recipe or {}).get("validation")
    part = validation if isinstance(validation, str) else "train"
    return job.dataset_name, job.dataset_version, part


def _said(accuracy: float | None) -> str:
    return "not a number" if accuracy is None else f"{accuracy:.4f}"
