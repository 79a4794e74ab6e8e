"""What the server does for the jobs while it lives: notices lost workers, says that it is alive.

Every server does this, so that no state shown is wrong for long even where no supervisor is left.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator
from functools import partial

import anyio.to_thread
from sqlalchemy.exc import SQLAlchemyError

from app.resources import Resources
from database import events, processes
from database.leases import LOOK_SECONDS, Watch

log = logging.getLogger(__name__)

_HOST = socket.gethostname()


@contextlib.asynccontextmanager
async def running(held: Resources, watch: Watch) -> AsyncIterator[None]:
    """Upkeep every two seconds inside of the context; a goodbye at its end."""
    await anyio.to_thread.run_sync(_once, held, watch)
    task = asyncio.create_task(_again_and_again(held, watch))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await anyio.to_thread.run_sync(_goodbye, held)


async def _again_and_again(held: Resources, watch: Watch) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            held.predictor.pool.tidy()
            await anyio.to_thread.run_sync(_once, held, watch)
        except SQLAlchemyError as error:  # a full disk, say: the same every two seconds
            log.error("upkeep failed, it is tried again: %s", getattr(error, "orig", error))
        except Exception:
            log.exception("upkeep failed, it is tried again")


def _once(held: Resources, watch: Watch) -> None:
    with held.writing.begin() as session:
        processes.seen(session, role="server", pid=os.getpid(), host=_HOST)
        for pid, device in held.predictor.pool.pids():
            processes.seen(session, role="predictor", pid=pid, host=_HOST, device=device)
        events.forget_progress(session)
    held.predict_device.look(partial(_held_devices, held))
    for job_id in watch.give_up_silent():
        log.warning("%s: its worker was lost", job_id)


def _held_devices(held: Resources) -> frozenset[str]:
    """Those of this machine that jobs compute on."""
    here = processes.boot_id()
    with held.reading() as session:
        return frozenset(
            row.device
            for row in processes.alive(session)
            if row.job_id and row.device and row.info.get("boot", here) == here
        )


def _goodbye(held: Resources) -> None:
    try:
        with held.writing.begin() as session:
            processes.forget(session, pid=os.getpid(), host=_HOST)
            for pid, _ in held.predictor.pool.pids():
                processes.forget(session, pid=pid, host=_HOST)
    except SQLAlchemyError as error:  # without it the server is listed for 15 s more
        log.error("no goodbye could be written: %s", getattr(error, "orig", error))
