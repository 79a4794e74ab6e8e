"""The curves of a job, whole or from where a client has them. Knows no requests."""

from typing import NamedTuple, Self

from sqlalchemy.orm import Session

from app.schemas import EpochRead, HistoryRead, StepRead
from database import history
from database.tables import Job

# Four numbers to us, opaque to clients.
MARK = r"^\d{1,9}(\.\d{1,12}){3}$"


class _Mark(NamedTuple):
    """The newest epoch (attempt and number) and step (likewise) that a client has."""

    epoch_attempt: int = 0
    epoch: int = 0
    step_attempt: int = 0
    step: int = 0

    @classmethod
    def of(cls, text: str | None) -> Self:
        return cls(*map(int, text.split("."))) if text else cls()

    def __str__(self) -> str:
        return ".".join(map(str, self))


def since(session: Session, job: Job, *, mark: str | None, max_points: int | None) -> HistoryRead:
    """What came after `mark`, the `next` of an earlier answer; all of it without one.

    The steps of a new attempt come whole: it goes again over some that the lost one had written.
    """
    had = _Mark.of(mark)
    epochs = [
        row
        for row in history.epochs(session, job.id)
        if (row.attempt, row.epoch) > (had.epoch_attempt, had.epoch)
    ]
    known_step = had.step if had.step_attempt == job.attempt else None
    steps = history.steps(session, job.id, since=known_step, max_points=max_points)
    has = _Mark(
        *((epochs[-1].attempt, epochs[-1].epoch) if epochs else had[:2]),
        *((job.attempt, steps[-1].step) if steps else had[2:]),
    )
    return HistoryRead(
        epochs=[EpochRead.model_validate(row) for row in epochs],
        steps=[StepRead.model_validate(row) for row in steps],
        next=str(has) if any(has) else None,
    )


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
