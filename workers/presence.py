"""Says which processes of a worker are alive, for all to see. Knows nothing of how they do."""

import os
from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from database import processes as process_rows
from workers.children import Child
from workers.pool import Need, Pool


class Presence:
    """The rows of one host's worker. They fade when nothing says so again for some seconds."""

    def __init__(self, sessions: sessionmaker[Session], host: str) -> None:
        self._sessions = sessions
        self._host = host
        self._pids: set[int] = set()

    def supervisor(self, pool: Pool) -> None:
        """This process, with what there is to train on."""
        self._seen("supervisor", os.getpid(), info={"devices": pool.devices, "cores": pool.cores})

    def forkserver(self, pid: int) -> None:
        """The one that children are forks of."""
        self._seen("forkserver", pid)

    def child(self, one: Child) -> None:
        """A job's process, and those that it trains with, each with its device."""
        devices: Sequence[str | None] = (one.need or Need()).spread(one.devices)
        for pid, device in zip(one.pids, devices or [None] * len(one.pids), strict=False):
            self._seen("child", pid, job_id=one.fence.job_id, device=device)

    def standby(self, pid: int, device: str) -> None:
        """A child that has no job yet."""
        self._seen("child", pid, device=device)

    def forget(self, *pids: int) -> None:
        """They have ended. Unknown ones are no error."""
        with self._sessions.begin() as session:
            for pid in pids:
                process_rows.forget(session, pid=pid, host=self._host)
        self._pids.difference_update(pids)

    def forget_all(self) -> None:
        """All that was said to be alive has ended, or is about to."""
        self.forget(*self._pids)

    def _seen(self, role: str, pid: int, **more: Any) -> None:
        self._pids.add(pid)
        with self._sessions.begin() as session:
            process_rows.seen(session, role=role, pid=pid, host=self._host, **more)
