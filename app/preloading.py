"""Loads what aliases point at when a server starts, so that who asks first waits for nothing.

Knows rows; knows no requests.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Literal

import anyio.to_thread
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from app.inference.devices import Device
from app.inference.pool import Pool
from database import aliases
from problems import Problem

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 5.0


class Preloading:
    """The state of it: `loading`, then `ok`, whatever became of single models; or `failed` yet."""

    def __init__(
        self, pool: Pool, device: Device, sessions: sessionmaker[Session], names: Sequence[str]
    ) -> None:
        self._pool = pool
        self._device = device
        self._sessions = sessions
        self._names = names
        self.state: Literal["loading", "ok", "failed"] = "loading"

    async def run(self) -> None:
        """Starts the first inference process, and loads as many models as there is memory for.
        Tried again and again where that fails.
        """
        while not await self._succeeds():
            self.state = "failed"
            await asyncio.sleep(_PAUSE_SECONDS)
        self.state = "ok"

    async def _succeeds(self) -> bool:
        try:
            self._device.gpus = await self._pool.start()
            for checkpoint_id in await anyio.to_thread.run_sync(self._wanted):
                if not self._pool.has_room(checkpoint_id):
                    log.warning("%s is not loaded yet: there is no memory left", checkpoint_id)
                    continue
                await self._load(checkpoint_id)
        except (Problem, SQLAlchemyError):
            log.exception("no predictions can be computed; it is tried again")
            return False
        return True

    async def _load(self, checkpoint_id: str) -> None:
        try:
            await self._pool.load(checkpoint_id)
        except Problem as problem:
            log.error("%s cannot be loaded: %s", checkpoint_id, problem.detail)

    def _wanted(self) -> list[str]:
        """What the aliases point at, the default first, each once."""
        with self._sessions() as session:
            known = aliases.names(session)
            chosen = known if "*" in self._names else [one for one in self._names if one in known]
            chosen = sorted(chosen, key=lambda one: one != aliases.DEFAULT)
            found = [aliases.get(session, name).checkpoint_id for name in chosen]
        return list(dict.fromkeys(found))
