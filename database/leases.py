"""Who has fallen silent: jobs at work whose sign of life has not changed for the lease.

Every server and every supervisor watches, by its own clock and what it has seen itself. No time
written by another process counts, so a clock that is set, by a day even, takes no job from a worker
and keeps no lost one (docs/decisions/0012).
"""

import time
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from database import claims
from database.tables import AT_WORK, Job

LEASE_SECONDS = 10.0
LOOK_SECONDS = 2.0


@dataclass(slots=True)
class _Seen:
    beat: int
    silent_seconds: float


class Watch:
    """What one process has seen of the jobs at work. `give_up_silent` is called every 2 s."""

    def __init__(
        self,
        reading: sessionmaker[Session],
        writing: sessionmaker[Session],
        *,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._reading = reading
        self._writing = writing
        self._lease_seconds = lease_seconds
        self._seen: dict[tuple[str, int], _Seen] = {}
        self._looked = time.monotonic()

    def give_up_silent(self, now: float | None = None) -> list[str]:
        """Gives up each job that was silent for the lease, as `claims.lose` does; their ids.

        `now`: seconds of a clock that is never set, this process's by default.
        """
        now = time.monotonic() if now is None else now
        # A process that was stopped, or a machine that slept, heard nothing and cannot judge.
        passed = min(now - self._looked, 2 * LOOK_SECONDS)
        self._looked = now
        given_up = []
        for (job_id, claim), seen in self._look(passed).items():
            if seen.silent_seconds < self._lease_seconds:
                continue
            with self._writing.begin() as session:
                if claims.lose_silent(session, job_id, claim=claim, beat=seen.beat):
                    given_up.append(job_id)
        return given_up

    def _look(self, passed: float) -> dict[tuple[str, int], _Seen]:
        at_work = select(Job.id, Job.claim, Job.beat).where(Job.state.in_(AT_WORK))
        with self._reading() as session:
            rows = session.execute(at_work).all()
        before, self._seen = self._seen, {}
        for job_id, claim, beat in rows:
            seen = before.get((job_id, claim))
            silent = seen.silent_seconds + passed if seen and seen.beat == beat else 0.0
            self._seen[job_id, claim] = _Seen(beat, silent)
        return self._seen
