"""Which job a supervisor takes next, and whether there is room for it.

Knows nothing of how jobs are done.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from database import jobs
from database.jobs import Fence
from settings import Settings
from workers import task
from workers.children import Child
from workers.pool import Need, Pool
from workers.task import Task

# Between two looks at a first job in line that needs more devices than are free.
LOOK_AGAIN_SECONDS = 0.5
# Each job that downloads leaves its device to the next; a queue full of them must stop somewhere.
MAX_WITHOUT_DEVICE = 4
# They read and write much: more at once would only get in each other's way.
MAX_IMPORTS_AND_EXPORTS = 2


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that is this worker's now, and the devices that are to be its own."""

    fence: Fence
    kind: str
    recipe: Mapping[str, Any] | None
    need: Need | None
    devices: tuple[str, ...]

    def task(self, settings: Settings) -> Task:
        """What its child is told."""
        own, *others = (self.need or Need()).spread(self.devices) or ("cpu",)
        return Task(
            fence=self.fence,
            kind=self.kind,
            device=own,
            database=settings.database,
            datasets=settings.datasets,
            cache=settings.cache,
            checkpoints=settings.checkpoints,
            weights=settings.weights,
            runs=settings.runs,
            uploads=settings.uploads,
            mirrors=settings.mirror,
            others=tuple(others),
            gpu_share=1 - settings.gpu_share_of_predictions,
        )


class Claims:
    """Of one worker."""

    def __init__(
        self,
        sessions: sessionmaker[Session],
        looking: sessionmaker[Session],
        *,
        worker_id: str,
        host: str,
    ) -> None:
        """`looking` takes no lock."""
        self._sessions = sessions
        self._looking = looking
        self._who = {"worker_id": worker_id, "host": host}
        self._too_few_until = 0.0

    def next(self, children: Sequence[Child], pool: Pool) -> Claimed | None:
        """Takes one job of a lane that has room, beside these children."""
        found = self._training(children, pool)
        others = jobs.LANES[1]
        busy = sum(one.kind in others for one in children)
        if found or busy >= MAX_IMPORTS_AND_EXPORTS or not self._is_waiting(others):
            return found
        return self._one(others)

    def _training(self, children: Sequence[Child], pool: Pool) -> Claimed | None:
        """Takes the first job in line, if there are devices for it that nobody waits for. While too
        few are free for it, no other may overtake it: it would never find them free together.
        """
        kinds, now = jobs.LANES[0], time.monotonic()
        without = [one for one in children if one.need and not one.devices]
        full = len(without) >= MAX_WITHOUT_DEVICE or any(one.waits_for_device for one in without)
        if full or not pool.free() or now < self._too_few_until or not self._is_waiting(kinds):
            return None
        with self._looking() as session:
            first = jobs.first(session, kinds)
        if first is None:
            return None
        need = pool.need(first.recipe)
        if not (devices := pool.free(need.places)):
            self._too_few_until = now + LOOK_AGAIN_SECONDS
            return None
        return self._one(kinds, job_id=first.id, need=need, devices=devices)

    def _is_waiting(self, kinds: Sequence[str]) -> bool:
        with self._looking() as session:  # takes no lock, so it may be asked often
            return jobs.is_waiting(session, kinds)

    def _one(
        self,
        kinds: Sequence[str],
        *,
        job_id: str | None = None,
        need: Need | None = None,
        devices: tuple[str, ...] = (),
    ) -> Claimed | None:
        device = task.named(devices) or None
        with self._sessions.begin() as session:
            job = jobs.claim(session, **self._who, device=device, kinds=kinds, job_id=job_id)
            if job is None:
                return None
            return Claimed(jobs.fence_of(job), job.kind, job.recipe, need, devices)
