"""What the server does for the jobs while it lives: notices lost workers, says that it is alive.

Every server does this, so that no state shown is wrong for long even where no supervisor is left.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator

import anyio.to_thread
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from database import events, processes
from database.leases import LOOK_SECONDS, Watch

log = logging.getLogger(__name__)

_HOST = socket.gethostname()


@contextlib.asynccontextmanager
async def running(sessions: sessionmaker[Session], watch: Watch) -> AsyncIterator[None]:
    """Upkeep every two seconds inside of the context; a goodbye at its end."""
    await anyio.to_thread.run_sync(_once, sessions, watch)
    task = asyncio.create_task(_again_and_again(sessions, watch))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await anyio.to_thread.run_sync(_goodbye, sessions)


async def _again_and_again(sessions: sessionmaker[Session], watch: Watch) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            await anyio.to_thread.run_sync(_once, sessions, watch)
        except SQLAlchemyError as error:  # a full disk, say: the same every two seconds
            log.error("upkeep failed, it is tried again: %s", getattr(error, "orig", error))
        except Exception:
            log.exception("upkeep failed, it is tried again")


def _once(sessions: sessionmaker[Session], watch: Watch) -> None:
    with sessions.begin() as session:
        processes.seen(session, role="server", pid=os.getpid(), host=_HOST)
        events.forget_progress(session)
    for job_id in watch.give_up_silent():
        log.warning("%s: its worker was lost", job_id)


def _goodbye(sessions: sessionmaker[Session]) -> None:
    try:
        with sessions.begin() as session:
            processes.forget(session, pid=os.getpid(), host=_HOST)
    except SQLAlchemyError as error:  # without it the server is listed for 15 s more
        log.error("no goodbye could be written: %s", getattr(error, "orig", error))
