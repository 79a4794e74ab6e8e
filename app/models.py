"""Which checkpoint a request means when it names a model, or names none. Knows rows, not files."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import anyio.to_thread
from sqlalchemy.orm import Session, sessionmaker

from database import aliases, checkpoints, ids, jobs
from database.tables import ACTIVE, Checkpoint, Job
from problems import Problem

# A server learns within half a second what another one was told of an alias, or that a checkpoint
# is gone; asking the database each time would cost as much as a small network (0041).
FRESH_SECONDS = 0.4
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Meant:
    """The checkpoint that a name stands for, and the job that it comes from."""

    checkpoint_id: str
    job_id: str | None


class Models:
    """What names of models mean, as of at most FRESH_SECONDS ago."""

    def __init__(
        self, sessions: sessionmaker[Session], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sessions = sessions
        self._clock = clock
        self._known: dict[str | None, tuple[float, Meant]] = {}
        self._looks: dict[tuple[str | None, int], asyncio.Future[Meant]] = {}
        self._changes = 0
        self._lock = threading.Lock()

    async def find(self, model: str | None) -> Meant:
        """Raises what `wanted` raises, each time anew. Whoever asks while an answer is looked for
        shares it, and what is known is looked for again before it is too old: nobody waits then.
        """
        known = self._known.get(model)
        if known is None or (age := self._clock() - known[0]) >= FRESH_SECONDS:
            return await asyncio.shield(self._looking(model))
        if age >= FRESH_SECONDS / 2:
            self._looking(model).add_done_callback(_heed)
        return known[1]

    def _looking(self, model: str | None) -> asyncio.Future[Meant]:
        key = (model, self._changes)
        task = self._looks.get(key)
        if task is None:
            task = asyncio.ensure_future(anyio.to_thread.run_sync(self.meant, model))
            self._looks[key] = task
            task.add_done_callback(lambda _: self._looks.pop(key, None))
        return task

    def meant(self, model: str | None) -> Meant:
        """Looks into the database. Raises what `wanted` raises."""
        began, changes = self._clock(), self._changes
        with self._sessions() as session:
            row = wanted(session, model)
            found = Meant(row.id, row.job_id)
        with self._lock:
            if changes == self._changes:  # else what was read may be what was there before
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[model] = began, found
        return found

    async def find_again(self, model: str | None) -> Meant:
        """As `find`, but asks the database now."""
        with self._lock:
            self._known.pop(model, None)
        return await self.find(model)

    def forget(self) -> None:
        """What is asked for from now on is asked of the database: call it after a change."""
        with self._lock:
            self._changes += 1
            self._known.clear()


def _heed(look: asyncio.Future[Meant]) -> None:
    """What it raises is raised for who asks next."""
    if not look.cancelled():
        look.exception()


def wanted(session: Session, model: str | None) -> Checkpoint:
    """The checkpoint of that id or alias, or the best so far of the job of that id. Without a name
    that of the alias `default`; where there is no alias at all, the best of the newest job that
    succeeded.

    Raises `Problem` model_not_found, model_required, or no_model_yet.
    """
    if model is None:
        return _unnamed(session)
    if ids.is_checkpoint(model):
        return _checkpoint(session, model)
    if ids.is_job(model):
        return _best_of_job(session, model)
    return checkpoints.get(session, aliases.meant(session, model).checkpoint_id)


def _unnamed(session: Session) -> Checkpoint:
    known = aliases.names(session)
    if aliases.DEFAULT in known:
        return checkpoints.get(session, aliases.get(session, aliases.DEFAULT).checkpoint_id)
    if known:
        raise Problem(
            "model_required",
            f"No model is named, and none is called {aliases.DEFAULT}.",
            hint=f"Name one of {', '.join(known[:20])}, or point an alias {aliases.DEFAULT} at "
            "what is meant: PUT /models/default.",
        )
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
        detail, hint = without_checkpoint(job)
        raise Problem("model_not_found", detail, hint=hint)
    return found


def without_checkpoint(job: Job) -> tuple[str, str]:
    """Why a job has no checkpoint, and what to do: there is nothing to wait for once it has ended,
    nor with one that trains nothing.
    """
    if job.kind != "train":
        detail = f"{job.id} trains nothing: it is a job of kind {job.kind}."
    else:
        detail = f"{job.id} has no checkpoint; it is {job.state}."
    if job.kind == "train" and job.state in ACTIVE:
        return detail, "Wait for its first epoch, or give another job or a checkpoint."
    return detail, "Give another job or a checkpoint."
