"""Which of our processes are alive, as each of them says. Knows nothing of how they are started."""

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from database.tables import Process

_FORGOTTEN_AFTER_SECONDS = 24 * 3600.0


def seen(  # noqa: PLR0913 - the columns of the row
    session: Session,
    *,
    role: str,
    pid: int,
    host: str,
    job_id: str | None = None,
    device: str | None = None,
    info: Mapping[str, Any] | None = None,
) -> None:
    """Notes that this process is alive now. Call it every few seconds; `info` is free to choose."""
    now = time.time()
    info = {"boot": boot_id(), **(info or {})}
    said = {"role": role, "job_id": job_id, "device": device, "info": info}
    row = update(Process).where(Process.host == host, Process.pid == pid)
    row = row.values(**said, seen_at=now).execution_options(synchronize_session=False)
    if session.scalar(row.returning(Process.pid)) is None:
        # Those who were killed could not say goodbye; a newcomer clears them away.
        session.execute(delete(Process).where(Process.seen_at < now - _FORGOTTEN_AFTER_SECONDS))
        session.execute(insert(Process).values(**said, host=host, pid=pid, seen_at=now))


def boot_id() -> str:
    """One boot of one machine, the same in all its containers; empty where nothing tells."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def of_other_machines(session: Session) -> list[str]:
    """Names of the other machines whose programs are alive, by what these said of their boot."""
    here = boot_id()
    return sorted({row.host for row in alive(session) if row.info.get("boot", here) != here})


def forget(session: Session, *, pid: int, host: str) -> None:
    """The process says goodbye, or another one saw it end. Unknown processes are no error."""
    session.execute(delete(Process).where(Process.host == host, Process.pid == pid))


def alive(session: Session, *, within_seconds: float = 15.0) -> list[Process]:
    """Those seen in the last `within_seconds`, by role, host and pid."""
    now = time.time()
    # Later than now: written before the clock was set back. Who lives says so again in 2 s.
    at = Process.seen_at.between(now - within_seconds, now + within_seconds)
    recent = select(Process).where(at)
    return list(session.scalars(recent.order_by(Process.role, Process.host, Process.pid)))
