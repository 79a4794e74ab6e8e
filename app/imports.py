"""Imports of data sets: who may have which name, and the job that an archive becomes.

Reads rows and folders, queues jobs; knows no requests, and nothing of what is in an archive.
"""

import os
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app import arrivals, views
from app.arrivals import Archive
from app.resources import Resources
from app.schemas import JobRead
from data_store import archive as archives
from data_store import catalog, origin
from data_store.origin import Origin
from database import jobs
from database.tables import Job, State
from problems import Problem, match
from settings import Settings

KIND = "import"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The data set that an archive is to become: a new one, or one that may `replace` what is
    there; with `merge` it is added to that.
    """

    name: str
    replace: bool = False
    merge: bool = False


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job of an archive; `is_new` is False for one that an earlier request made."""

    job: JobRead
    is_new: bool


def check_changeable(held: Resources, name: str) -> None:
    """What can be said before an archive is here that is to change this data set: nothing where it
    may be the one that the set is made of, or is being made of.

    Raises `Problem` dataset_in_use.
    """
    with held.reading() as session:
        is_ours = origin.read(held.settings.datasets / name) is not None
        if not is_ours and _importing(session, name) is None:
            check_unused(session, name)


def check_settled(session: Session, name: str) -> None:
    """Raises `Problem` dataset_in_use while a data set of this name is being imported: what is
    there now, if anything, is about to go.
    """
    if active := _importing(session, name):
        raise Problem(
            "dataset_in_use",
            f"{active.id} imports {active.dataset_name!r} just now.",
            hint=f"Wait until it has ended: GET /jobs/{active.id}?wait=55.",
            errors=[{"loc": ["body", "dataset"], "msg": "is being imported"}],
        )


def submit(held: Resources, archive: Archive, wanted: Wanted, *, owner: str) -> Submitted:
    """Queues the import of an archive, or finds the job that has imported the same before.

    The job is stored when this returns; an archive that none needs is removed. Raises `Problem`
    archive_invalid for what is none, name_taken, dataset_in_use, too_many_queued.
    """
    try:
        archives.check_kind(archive.path)
        with held.writing.begin() as session:
            row = _made_before(session, archive, wanted, held.settings)
            is_new = row is None
            if row is None:
                _check_free(session, archive, wanted, held.settings)
                row = _enqueue(session, archive, wanted, owner=owner, settings=held.settings)
            submitted = Submitted(views.job(session, row, held.settings.runs), is_new)
    except BaseException:
        archive.discard()
        raise
    if not is_new:
        archive.discard()
    return submitted


def withdraw(job: Job, settings: Settings) -> None:
    """Removes the archive of an import that was cancelled before anybody began with it."""
    if job.kind == KIND and job.state is State.cancelled and (upload := _upload(job)):
        (settings.uploads / upload).unlink(missing_ok=True)


def sweep(held: Resources) -> None:
    """Removes archives that no job will ask for any more."""
    with held.reading() as session:
        wanted = {upload for row in _at_work(session) if (upload := _upload(row))}
    arrivals.sweep(held.settings.uploads, wanted)


def _made_before(
    session: Session, archive: Archive, wanted: Wanted, settings: Settings
) -> Job | None:
    """The job that makes, or has made, this data set of this archive."""
    active = _importing(session, wanted.name)
    if active is not None:
        asked = active.request or {}
        same = (asked.get("sha256"), asked.get("merge")) == (archive.sha256, wanted.merge)
        return active if same else None
    made_of = _same_content(archive, wanted.name, settings)
    if made_of is None or made_of.job is None:
        return None
    try:
        return jobs.get(session, made_of.job)
    except Problem:  # it was deleted: the archive is imported once more
        return None


def _check_free(session: Session, archive: Archive, wanted: Wanted, settings: Settings) -> None:
    """Whether the name may be given to a new set, or the set of that name be changed."""
    if wanted.replace:
        check_unused(session, wanted.name)
    elif active := _importing(session, wanted.name):
        raise _taken(f"{active.id} imports {active.dataset_name!r} just now.")
    elif os.path.lexists(settings.datasets / wanted.name):
        if _same_content(archive, wanted.name, settings) is None:
            raise _taken(f"There is a data set {wanted.name!r} with other content.")
        check_unused(session, wanted.name)  # imported once more, as its job is not there any more


def _same_content(archive: Archive, name: str, settings: Settings) -> Origin | None:
    """Where the data set came from, if that is this archive, and nobody changed the set since."""
    found = origin.read(settings.datasets / name)
    if found is None or found.sha256 != archive.sha256:
        return None
    return found if catalog.is_as_imported(name, settings.datasets) else None


def _taken(detail: str) -> Problem:
    return Problem("name_taken", detail, errors=[{"loc": ["body", "name"], "msg": "taken"}])


def check_unused(session: Session, name: str) -> None:
    """Raises `Problem` dataset_in_use when an active job is to read or to make the data set."""
    users = jobs.find(session, states=jobs.ACTIVE, dataset=name, limit=1).items
    user = users[0] if users else _importing(session, name)
    if user is not None:
        raise Problem(
            "dataset_in_use", f"{user.id} of {user.owner}, which is {user.state}, uses it."
        )


def _enqueue(
    session: Session, archive: Archive, wanted: Wanted, *, owner: str, settings: Settings
) -> Job:
    return jobs.enqueue(
        session,
        kind=KIND,
        dataset=wanted.name,
        recipe=None,
        request={
            "upload": archive.path.name,
            "sha256": archive.sha256,
            "merge": wanted.merge,
        },
        owner=owner,
        max_queued=settings.max_queued_per_owner,
    )


def _importing(session: Session, name: str) -> Job | None:
    """The import that is to make a data set of this name, however it is written."""
    return next((job for job in _at_work(session) if match(name, [job.dataset_name or ""])), None)


def _at_work(session: Session) -> list[Job]:
    found: list[Job] = []
    cursor = None
    while True:
        page = jobs.find(session, states=jobs.ACTIVE, kind=KIND, limit=200, cursor=cursor)
        found += page.items
        if (cursor := page.next_cursor) is None:
            return found


def _upload(job: Job) -> str | None:
    return (job.request or {}).get("upload")
