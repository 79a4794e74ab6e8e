"""Lists of jobs: filters, orders and pages. Changes nothing."""

from collections.abc import Collection

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from database.pages import Page, Place, cursor_to, place_of
from database.tables import Job, JobTag, State
from problems import Problem

_ORDERS = {  # ids sort by time
    "-created_at": (Job.id.desc(),),
    "created_at": (Job.id.asc(),),
    "-best_val_accuracy": (Job.best_val_accuracy.desc().nulls_last(), Job.id.desc()),
}
SORTS = tuple(_ORDERS)


def find(  # noqa: PLR0913 - the filters of the list
    session: Session,
    *,
    states: Collection[State] | None = None,
    kind: str | None = None,
    owner: str | None = None,
    dataset: str | None = None,
    tag: str | None = None,
    sort: str = "-created_at",
    limit: int = 50,
    cursor: str | None = None,
) -> Page[Job]:
    """A page of the jobs that pass every filter given, in one of SORTS.

    Problem invalid_request for an unknown `sort` or a cursor of another list.
    """
    if sort not in _ORDERS:
        raise _unknown_sort(sort)
    found = select(Job).order_by(*_ORDERS[sort]).limit(limit + 1)
    if states is not None:
        found = found.where(Job.state.in_(states))
    for column, wanted in ((Job.kind, kind), (Job.owner, owner), (Job.dataset_name, dataset)):
        if wanted is not None:
            found = found.where(column == wanted)
    if tag is not None:
        found = found.join(JobTag, JobTag.job_id == Job.id).where(JobTag.tag == tag)
    if cursor is not None:
        found = found.where(_after(sort, place_of(cursor, sort)))
    rows = list(session.scalars(found))
    more = len(rows) > limit
    return Page(rows[:limit], cursor_to(sort, _place(sort, rows[limit - 1])) if more else None)


def counts(session: Session) -> dict[State, int]:
    """How many jobs are in each state; states that no job is in are left out."""
    found = session.execute(select(Job.state, func.count()).group_by(Job.state))
    return {row[0]: row[1] for row in found}


def _place(sort: str, job: Job) -> Place:
    return (job.best_val_accuracy if sort == "-best_val_accuracy" else None), job.id


def _after(sort: str, place: Place) -> ColumnElement[bool]:
    accuracy, job_id = place
    if sort == "created_at":
        return Job.id > job_id
    older = Job.id < job_id
    if sort == "-created_at":
        return older
    if accuracy is None:
        return and_(Job.best_val_accuracy.is_(None), older)
    return or_(
        Job.best_val_accuracy < accuracy,
        and_(Job.best_val_accuracy == accuracy, older),
        Job.best_val_accuracy.is_(None),
    )


def _unknown_sort(sort: str) -> Problem:
    choices = ", ".join(SORTS)
    return Problem(
        "invalid_request",
        f"Jobs cannot be sorted by {sort[:80]!r}; there is {choices}.",
        errors=[{"loc": ["query", "sort"], "msg": f"one of {choices}"}],
    )
