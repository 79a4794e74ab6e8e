"""The curves of a job, whole or from where a client has them. Knows no requests."""

from typing import NamedTuple, Self

from sqlalchemy.orm import Session

from app.schemas import EpochRead, HistoryRead, StepRead
from database import history, jobs
from database.tables import Job

# Four numbers to us, opaque to clients.
MARK = r"^\d{1,9}(\.\d{1,12}){3}$"


class _Mark(NamedTuple):
    """The newest epoch (attempt and number) and step that a client has; of the step the number, and
    the claim of the worker who wrote it.
    """

    epoch_attempt: int = 0
    epoch: int = 0
    step_claim: int = 0
    step: int = 0

    @classmethod
    def of(cls, text: str | None) -> Self:
        return cls(*map(int, text.split("."))) if text else cls()

    def __str__(self) -> str:
        return ".".join(map(str, self))


def since(session: Session, job: Job, *, mark: str | None, max_points: int | None) -> HistoryRead:
    """What came after `mark`, the `next` of an earlier answer; all of it without one.

    The steps of a new worker come whole: it goes again over some that the one before had written.
    """
    had = _Mark.of(mark)
    epochs = [
        row
        for row in history.epochs(session, job.id)
        if (row.attempt, row.epoch) > (had.epoch_attempt, had.epoch)
    ]
    claim = _claim_of_steps(job)
    known_step = had.step if had.step_claim == claim else None
    steps = history.steps(session, job.id, since=known_step, max_points=max_points)
    has = _Mark(
        *((epochs[-1].attempt, epochs[-1].epoch) if epochs else had[:2]),
        *((claim, steps[-1].step) if steps else had[2:]),
    )
    return HistoryRead(
        epochs=[EpochRead.model_validate(row) for row in epochs],
        steps=[StepRead.model_validate(row) for row in steps],
        next=str(has) if any(has) else None,
    )


def _claim_of_steps(job: Job) -> int:
    """Of the worker who wrote the newest steps; a worker at work tells a step with its first one,
    and until then what there is are those of the claim before.
    """
    has_begun = job.state not in jobs.AT_WORK or (job.progress or {}).get("step")
    return job.claim if has_begun else job.claim - 1


def drawn(session: Session, job: Job) -> bytes:
    """The curves as a PNG."""
    from app import pictures  # matplotlib

    rows = [
        pictures.Curve(
            row.epoch, row.train_loss, row.val_loss, row.train_accuracy, row.val_accuracy
        )
        for row in history.curve(session, job.id)
    ]
    metrics = job.metrics or {}
    tested = (metrics.get("test_loss"), metrics.get("test_accuracy"))
    return pictures.curves(rows, name=job.name, job_id=job.id, tested=tested)
