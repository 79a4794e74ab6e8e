"""Everyone who waits for something to happen to a job, served by one reader of the events.

The reader runs while somebody listens, and no thread is held while waiting. Knows the events'
numbers and types; nothing of what is answered in the end.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio.to_thread
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from sqlalchemy.orm import Session, sessionmaker

from database import events, jobs
from database.tables import Event

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.05
_TROUBLE_SECONDS = 1.0
# After which it is looked whether jobs were deleted: nothing tells of it, and an `end` that was
# not read yet is deleted with its job.
_GONE_SECONDS = 1.0
KEEPALIVE_SECONDS = 15.0
_PAGE = 500
# A listener that is so far behind does not read; it may come back and hear the rest.
_MOST_WAITING = 1000
# A browser that lost its stream comes back after so many milliseconds.
_RETRY = b"retry: 1000\n\n"


Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Heard:
    """An event as it is sent to every listener."""

    id: int
    type: str
    text: bytes


_Queue = asyncio.Queue[Heard | None]


class Feed:
    """Who listens to which job. Belongs to one event loop."""

    def __init__(self, reading: sessionmaker[Session]) -> None:
        self._reading = reading
        self._queues: dict[str, set[_Queue]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._begun = asyncio.Event()
        self._reads: dict[str, asyncio.Future[Any]] = {}
        self._closed = False

    async def stream(
        self, job_id: str, *, after: int, keepalive_seconds: float = KEEPALIVE_SECONDS
    ) -> AsyncIterator[bytes]:
        """The job's events after number `after`, each once and in order, until its `end`, or until
        the job is deleted.

        The past is read from the database while the present gathers in the queue: what is in both
        is sent once.
        """
        yield _RETRY
        with self._listening(job_id) as queue:
            await self._begun.wait()
            async for heard in self._past(job_id, after):
                yield heard.text
                after = heard.id
                if heard.type == events.END:
                    return
            while not self._closed:
                try:
                    now = await asyncio.wait_for(queue.get(), keepalive_seconds)
                except TimeoutError:
                    yield KEEPALIVE_COMMENT
                    continue
                if now is None:
                    return
                if now.id > after:
                    yield now.text
                    after = now.id
                    if now.type == events.END:
                        return

    async def wait_for_end(self, job_id: str, *, seconds: float) -> bool:
        """Returns when the job has ended (True), after `seconds`, when the job is deleted, or when
        the server stops.
        """
        with self._listening(job_id) as queue, contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._begun.wait()
                # It may have ended before anyone listened.
                if await anyio.to_thread.run_sync(self._has_ended, job_id):
                    return True
                while not self._closed and (heard := await queue.get()) is not None:
                    if heard.type == events.END:
                        return True
        return False

    async def once(self, job_id: str, read: Callable[[], Answer]) -> Answer:
        """What `read` finds of a job that has ended; it is read once for all who ask meanwhile, as
        hundreds do when the job that they wait for ends.
        """
        task = self._reads.get(job_id)
        if task is None:
            task = asyncio.ensure_future(anyio.to_thread.run_sync(read))
            self._reads[job_id] = task
            task.add_done_callback(lambda _: self._reads.pop(job_id))
        answer: Answer = await asyncio.shield(task)
        return answer

    @property
    def is_closed(self) -> bool:
        """As it is once the server stops."""
        return self._closed

    def close(self) -> None:
        """Lets everyone go; nobody listens any more."""
        self._closed = True
        self._begun.set()
        for job_id in self._queues:
            self._tell(job_id, None)

    @contextlib.contextmanager
    def _listening(self, job_id: str) -> Iterator[_Queue]:
        # Who reads the past once the reader has begun misses nothing: an event is in the past,
        # or in the queue, or in both.
        queue = _Queue(_MOST_WAITING)
        self._queues.setdefault(job_id, set()).add(queue)
        if not self._closed and (self._reader is None or self._reader.done()):
            self._begun.clear()
            self._reader = asyncio.create_task(self._read())
        try:
            yield queue
        finally:
            self._queues[job_id].discard(queue)
            if not self._queues[job_id]:
                del self._queues[job_id]

    async def _past(self, job_id: str, after: int) -> AsyncIterator[Heard]:
        while True:
            page = await anyio.to_thread.run_sync(self._page, job_id, after)
            for heard in page:
                yield heard
            if len(page) < _PAGE:
                return
            after = page[-1].id

    def _page(self, job_id: str, after: int) -> list[Heard]:
        with self._reading() as session:
            found = events.since(session, after, job_id=job_id, limit=_PAGE)
            return [_heard(event) for event in found]

    def _newest(self) -> int:
        with self._reading() as session:
            return events.newest(session)

    def _has_ended(self, job_id: str) -> bool:
        with self._reading() as session:
            return bool(jobs.ended(session, [job_id]))

    def _gone(self, job_ids: list[str]) -> set[str]:
        with self._reading() as session:
            return jobs.gone(session, job_ids)

    def _news(self, after: int) -> list[tuple[str, Heard]]:
        with self._reading() as session:
            found = events.since(session, after, limit=_PAGE)
            return [(event.job_id, _heard(event)) for event in found]

    async def _read(self) -> None:
        """Runs while somebody listens, and hands each new event to those of its job; of a deleted
        job they are let go.
        """
        last: int | None = None
        looked = time.monotonic()
        gone: set[str] = set()
        while self._queues and not self._closed:
            try:
                if last is None:
                    last = await anyio.to_thread.run_sync(self._newest)
                    self._begun.set()
                news = await anyio.to_thread.run_sync(self._news, last)
                if time.monotonic() - looked > _GONE_SECONDS:
                    gone = await anyio.to_thread.run_sync(self._gone, list(self._queues))
                    looked = time.monotonic()
            except Exception:
                log.exception("the events could not be read; it is tried again")
                await asyncio.sleep(_TROUBLE_SECONDS)
                continue
            for job_id, heard in news:
                last = heard.id
                self._tell(job_id, heard)
            for job_id in gone:
                self._tell(job_id, None)
            await asyncio.sleep(_POLL_SECONDS)

    def _tell(self, job_id: str, heard: Heard | None) -> None:
        for queue in self._queues.get(job_id, ()):
            _tell(queue, heard)


def _tell(queue: _Queue, heard: Heard | None) -> None:
    """To one that is too far behind, only that it is over."""
    if queue.full():
        while not queue.empty():
            queue.get_nowait()
        heard = None
    queue.put_nowait(heard)


def _heard(event: Event) -> Heard:
    data = {"at": event.created_at.isoformat().replace("+00:00", "Z"), **event.data}
    text = format_sse_event(
        data_str=json.dumps(data, ensure_ascii=False), event=event.type, id=str(event.id)
    )
    return Heard(event.id, event.type, text)
