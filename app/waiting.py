"""Long polls: requests that wait for a job to end, all served by one reader of the database.

No thread is held while waiting. Knows nothing of what is answered in the end.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable

import anyio.to_thread

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1


class Waiting:
    """Who waits for which job. Belongs to one event loop.

    `ended` is asked, in a thread, which of some jobs will not change any more.
    """

    def __init__(self, ended: Callable[[set[str]], set[str]]) -> None:
        self._ended = ended
        self._events: dict[str, set[asyncio.Event]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._closed = False

    async def wait(self, job_id: str, *, seconds: float) -> None:
        """Returns when the job has ended, after `seconds`, or when the server stops."""
        if self._closed or seconds <= 0:
            return
        event = asyncio.Event()
        self._events.setdefault(job_id, set()).add(event)
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), seconds)
        finally:
            self._leave(job_id, event)

    def close(self) -> None:
        """Lets everyone go; nobody waits any more."""
        self._closed = True
        self._wake(set(self._events))

    async def _read(self) -> None:
        """Runs while somebody waits."""
        while self._events:
            try:
                self._wake(await anyio.to_thread.run_sync(self._ended, set(self._events)))
            except Exception:
                log.exception("the jobs that are waited for could not be read")
            await asyncio.sleep(_POLL_SECONDS)

    def _wake(self, job_ids: set[str]) -> None:
        for job_id in job_ids:
            for event in self._events.get(job_id, ()):
                event.set()

    def _leave(self, job_id: str, event: asyncio.Event) -> None:
        events = self._events[job_id]
        events.discard(event)
        if not events:
            del self._events[job_id]
