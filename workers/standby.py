"""A child that has made a device ready before there is a job for it, and waits for one.

A GPU's context and its libraries take a second of a job that is there already. Only on a device
that nothing runs on: beside a job it would take memory from it (docs/decisions/0046).
"""

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from workers import children, task
from workers.children import Launcher
from workers.pool import Need
from workers.task import Task

log = logging.getLogger(__name__)


def pays(device: str) -> bool:
    """Whether the device takes time to be made ready: on the CPU a child begins in 20 ms."""
    return device.startswith("cuda")


def suits(recipe: Mapping[str, Any] | None, need: Need | None) -> bool:
    """Whether a job may go to a child that has touched its device: not one that is to repeat to the
    bit, which has to be said before, nor one of several processes, which fork before.
    """
    asked = recipe or {}
    unfit = asked.get("deterministic") or asked.get("device") == "cpu"
    return need is not None and need.processes == 1 and not unfit


@dataclass(slots=True)
class _Waiting:
    process: BaseProcess
    channel: Connection
    device: str
    is_ready: bool = False

    def hear(self) -> None:
        """Whether it has said that it is ready."""
        with contextlib.suppress(EOFError, OSError):
            if not self.is_ready and self.channel.poll() and self.channel.recv():
                self.is_ready = True
                log.info("%s is ready, for whatever comes next", self.device)


class Standby:
    """At most one such child."""

    def __init__(
        self, launcher: Launcher, host: str, *, forget: Callable[[int], object] = lambda _: None
    ) -> None:
        """`forget` is told the pid of one that makes room, or has ended by itself; it may fail with
        `SQLAlchemyError`.
        """
        self._launcher = launcher
        self._host = host
        self._forget = forget
        self._one: _Waiting | None = None
        self._is_futile = False

    @property
    def shown(self) -> tuple[int, str] | None:
        """The pid and the device of the one that waits."""
        return (self._one.process.pid or 0, self._one.device) if self._one else None

    def make(self, devices: Sequence[str]) -> bool:
        """Starts one on the first of these on which it pays; whether it did.

        After one that has ended by itself there is no other before the next job: it would end too.
        """
        if self._one is not None:
            self._look_after(self._one)
            return False
        device = next(filter(pays, devices), None)
        if device is None or self._is_futile:
            return False
        try:
            process, channel = self._launcher.start(task.stand_by, device, self._host)
        except (EOFError, OSError) as error:
            log.warning("nothing stands by on %s: %s", device, error or type(error).__name__)
            self._is_futile = True
            return False
        self._one = _Waiting(process, channel, device)
        return True

    def give(self, given: Task) -> tuple[BaseProcess, Connection] | None:
        """Hands a job to the child that waits on its device; that is one like any other then. None:
        there is none, or it is not ready.
        """
        one = self._one
        if one is None or one.device != given.device:
            return None
        one.hear()
        if not one.is_ready or not one.process.is_alive():
            return None
        try:
            one.channel.send(given)
        except OSError:  # it died just then
            return None
        self._one = None
        return one.process, one.channel

    def leave(self, devices: Sequence[str]) -> None:
        """Nothing waits on these any more: a job is to have them for itself."""
        self._is_futile = self._is_futile and not devices
        if self._one is not None and self._one.device in devices:
            self._leave()

    def end(self) -> None:
        """Ends it: it has nothing to save."""
        one, self._one = self._one, None
        if one is not None:
            children.kill(one.process)
            one.process.join()
            one.channel.close()

    def _look_after(self, one: _Waiting) -> None:
        one.hear()
        if not one.process.is_alive():
            code = one.process.exitcode
            log.warning("what stood by on %s ended, exit code %s", one.device, code)
            self._is_futile = True
            self._leave()

    def _leave(self) -> None:
        if self._one is not None:
            pid = self._one.process.pid or 0
            self.end()
            try:
                self._forget(pid)
            except SQLAlchemyError as error:  # it fades by itself, and a job may be about to begin
                why = getattr(error, "orig", error)
                log.warning("process %s is still said to be there: %s", pid, why)
