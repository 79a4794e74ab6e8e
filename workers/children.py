"""The children of a supervisor: what it knows of each, and how they are made.

Knows nothing of rows: whom they work for is in their claims.
"""

import logging
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from database.jobs import Fence, State
from settings import Settings
from workers import processes
from workers.pool import Need

log = logging.getLogger(__name__)

# A cancel is cooperative first; memory must be free within 5 s of it (docs/decisions/0003).
KILL_AFTER_SECONDS = 3.5
# A child that has not reported by then hangs in its imports.
START_SECONDS = 120.0
# A signal that comes just before a wait does not interrupt it.
LOOK_SECONDS = 0.05


@dataclass(slots=True)
class Child:
    """A process and the claim it works on. `devices` are none while it has given its own up, and of
    kinds that `need` none. `followers` are the processes that it trains with. One that `stood_by`
    was there before its job. An `orphaned` one was still alive when it was said to have ended; None
    until somebody has looked.
    """

    fence: Fence
    process: BaseProcess
    kind: str
    channel: Connection | None
    began: float
    need: Need | None
    devices: tuple[str, ...]
    stood_by: bool = False
    followers: tuple[int, ...] = ()
    waits_for_device: bool = False
    cancelling_since: float | None = None
    orphaned: bool | None = None

    @property
    def pid(self) -> int:
        return self.process.pid or 0

    @property
    def pids(self) -> tuple[int, ...]:
        """Its own, and those of its followers."""
        return (self.pid, *self.followers)

    def watch(self, state: State | None, now: float) -> None:
        """Ends it when it has no claim any more, and so no `state`, does not heed a cancel, or
        never came up.
        """
        hangs = state is State.starting and now - self.began > START_SECONDS
        if state is None or hangs:
            log.warning("%s: ending its process %s", self.fence.job_id, self.pid)
            self.kill()
        elif state is State.cancelling:
            if self.cancelling_since is None:
                self.cancelling_since = now
                self.ask_to_end()
            elif now - self.cancelling_since > KILL_AFTER_SECONDS:
                self.kill()

    def ask_to_end(self) -> None:
        """SIGTERM to it alone, unless it has ended."""
        if self.orphaned is None:
            processes.ask_to_end(self.pid)

    def kill(self) -> None:
        """Ends it and all that it started, unless it has ended."""
        if self.orphaned is None:
            kill(self.process)

    def end_rest(self) -> None:
        """Of one that is said to have ended: itself, if it is `orphaned`, and what it had started.
        Done once and at once, since its number may be somebody else's later.
        """
        if self.orphaned is None:
            # A forkserver that dies leaves its children alive, but nobody hears of their end.
            self.orphaned = processes.is_running(self.pid)
            processes.end_group(self.pid)


def kill(process: BaseProcess) -> None:
    """Ends a child and all that it started."""
    processes.end_group(process.pid or 0)
    process.kill()  # while it comes up it leads no group yet


class Launcher:
    """Makes children: forks of the forkserver, or new interpreters."""

    def __init__(self, settings: Settings) -> None:
        self._context: Any = multiprocessing.get_context(_start_method(settings))
        self.is_waiting = False  # for a forkserver, which may have to import torch first

    def start(
        self, target: Callable[..., object], *given: object
    ) -> tuple[BaseProcess, Connection]:
        """A process that does `target` to what is given and its end of a pipe; and the other end.

        Raises `EOFError`, `ConnectionError` when the forkserver died just then. What a signal
        handler raises while it `is_waiting` leaves no process behind.
        """
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=target, args=(*given, theirs))
        try:
            self.is_waiting = True
            process.start()
            self.is_waiting = False
        except BaseException:
            self.is_waiting = False
            ours.close()
            if process.pid is not None:
                kill(process)
            raise
        finally:
            theirs.close()
        return process, ours

    def ask(self, target: Callable[..., object], *given: object, unless: Callable[[], bool]) -> Any:
        """What a process answers that does `target` as `start` would have it.

        Raises `EOFError`, `ConnectionError` when it died, and `SystemExit` soon after `unless`.
        Whatever else is raised meanwhile, it leaves no process behind.
        """
        try:
            process, channel = self.start(target, *given)
            with channel:
                while not channel.poll(LOOK_SECONDS):
                    if unless():
                        raise SystemExit(0)
                answer = channel.recv()
            process.join()
        except BaseException:
            for one in multiprocessing.active_children():  # Python would wait for it, maybe forever
                kill(one)
            raise
        return answer


def _start_method(settings: Settings) -> str:
    if settings.start_method != "auto":
        return settings.start_method
    return "forkserver" if sys.platform == "linux" else "spawn"
