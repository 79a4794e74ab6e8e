"""Which checkpoint a request means when it names a model, or names none. Knows rows, not files."""

from sqlalchemy.orm import Session

from app.dependencies import is_checkpoint_id, is_job_id
from database import checkpoints, jobs
from database.tables import Checkpoint
from problems import Problem


def wanted(session: Session, model: str | None) -> Checkpoint:
    """The checkpoint of that id, or the best so far of the job of that id; without a name the best
    of the newest job that succeeded.

    Raises `Problem` model_not_found, or no_model_yet.
    """
    if model is None:
        return _newest(session)
    if is_checkpoint_id(model):
        return _checkpoint(session, model)
    if is_job_id(model):
        return _best_of_job(session, model)
    raise Problem("model_not_found", f"There is no model {model[:80]!r}.")


def _newest(session: Session) -> Checkpoint:
    found = checkpoints.newest_model(session)
    if found is None:
        raise Problem("no_model_yet", "No job has succeeded and kept a checkpoint yet.")
    return found


def _checkpoint(session: Session, checkpoint_id: str) -> Checkpoint:
    try:
        return checkpoints.get(session, checkpoint_id)
    except Problem as problem:
        raise Problem("model_not_found", problem.detail) from None


def _best_of_job(session: Session, job_id: str) -> Checkpoint:
    try:
        job = jobs.get(session, job_id)
    except Problem as problem:
        raise Problem("model_not_found", problem.detail) from None
    found = checkpoints.best_of(session, job_id)
    if found is None:
        raise Problem(
            "model_not_found",
            f"{job_id} has no checkpoint; it is {job.state}.",
            hint="Wait for its first epoch, or give another job or a checkpoint.",
        )
    return found
