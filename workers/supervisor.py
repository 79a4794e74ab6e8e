"""The supervisor: claims jobs, gives each a process and a device, and writes how it ended.

Never computes and never imports torch itself. What a job does is `work`'s business.
"""

import contextlib
import logging
import multiprocessing
import os
import secrets
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from data_store import staging, unfinished
from database import checkpoints, engine, jobs
from database import processes as process_rows
from database.jobs import Fence, State
from database.leases import LEASE_SECONDS, LOOK_SECONDS, Watch
from problems import Problem
from settings import Settings
from workers import endings, processes, task
from workers.task import Task

log = logging.getLogger(__name__)

BUSY_SECONDS, IDLE_SECONDS = 0.05, 0.1
WATCH_SECONDS = 0.5
# A cancel is cooperative first; memory must be free within 5 s of it (docs/decisions/0003).
KILL_AFTER_SECONDS = 3.5
# Between two tries when the database does not answer.
TROUBLE_SECONDS = 1.0
# A child that has not reported by then hangs in its imports.
START_SECONDS = 120.0
STOP_SECONDS = 8.0
# Each job that downloads leaves its device to the next; a queue full of them must stop somewhere.
MAX_WITHOUT_DEVICE = 4
# They read and write much: more at once would only get in each other's way.
MAX_IMPORTS_AND_EXPORTS = 2


@dataclass(slots=True)
class Child:
    """A process and the claim it works on. `device` is None while it has given its own up, and of
    kinds that need none.
    """

    fence: Fence
    process: BaseProcess
    kind: str
    channel: Connection | None
    began: float
    device: str | None
    waits_for_device: bool = False
    cancelling_since: float | None = None

    @property
    def pid(self) -> int:
        return self.process.pid or 0

    def kill(self) -> None:
        """Ends it and all that it started."""
        processes.end_group(self.pid)
        self.process.kill()  # while it comes up it leads no group yet


class Supervisor:
    """One per home and host. `run` returns after `stop`."""

    def __init__(
        self, settings: Settings, database: Engine, *, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self._settings = settings
        self._sessions = engine.session_factory(database)
        self._looking = engine.session_factory(database, read_only=True)
        self._database = engine.identity(settings.database)
        self._leases = Watch(self._looking, self._sessions, lease_seconds=lease_seconds)
        self._host = socket.gethostname()
        self._id = f"{self._host}-{os.getpid()}-{secrets.token_hex(3)}"
        self._context: Any = multiprocessing.get_context(_start_method(settings))
        self._children: list[Child] = []
        self._free: list[str] = []
        self._forkserver: int | None = None
        self._ready = self._stopping = False
        self._housekept = self._watched = 0.0

    def stop(self) -> None:
        """Ends the loop soon; fit for a signal handler, which it leaves by SystemExit at first:
        while the forkserver still imports torch nothing runs that would have to be given back.
        """
        self._stopping = True
        if not self._ready:
            sys.exit(0)

    def run(self) -> None:
        """Claims and watches until `stop`, then gives the running jobs back to the queue."""
        self._settings.runs.mkdir(parents=True, exist_ok=True)
        self._settle_earlier()
        unfinished.sweep(self._settings.datasets, self._settings.weights)
        self._sweep()
        self._free = self._probe() * self._settings.jobs_per_device
        self._ready = True
        log.info("ready: %s", ", ".join(self._free))
        pause = BUSY_SECONDS
        try:
            while not self._stopping:
                busy = self._turn()
                pause = BUSY_SECONDS if busy else min(pause * 1.2, IDLE_SECONDS)
                self._wait(pause)
        finally:  # also after an error: Python would wait for the children until they are done
            self._stop_children()
        self._say_goodbye()

    def _turn(self) -> bool:
        """One round; True when something happened."""
        try:
            ended = self._reap()
            self._hand_out_devices()
            self._housekeep()
            return self._claim() or ended
        except SQLAlchemyError as error:
            # A locked or unreachable database is tried again; leases bridge the gap.
            log.error("the database did not answer: %s", getattr(error, "orig", error))
            time.sleep(TROUBLE_SECONDS)
            return False

    # -- claiming --------------------------------------------------------------------------

    def _claim(self) -> bool:
        """Takes one job of a lane that has room."""
        training, others = jobs.LANES
        return self._claim_one(training, self._device_for_one()) or (
            sum(one.kind in others for one in self._children) < MAX_IMPORTS_AND_EXPORTS
            and self._claim_one(others, None)
        )

    def _device_for_one(self) -> str | None:
        """A device that is free and that nobody waits for."""
        training = [one for one in self._children if one.kind == "train"]
        waiting = sum(one.device is None for one in training)
        return self._free[0] if self._free and waiting < MAX_WITHOUT_DEVICE else None

    def _claim_one(self, kinds: Sequence[str], device: str | None) -> bool:
        if device is None and "train" in kinds:
            return False
        with self._looking() as session:  # takes no lock, so it may be asked often
            if not jobs.is_waiting(session, kinds):
                return False
        with self._sessions.begin() as session:
            job = jobs.claim(
                session, worker_id=self._id, host=self._host, device=device, kinds=kinds
            )
            claimed = None if job is None else (jobs.fence_of(job), job.kind)
        if claimed is None:
            return False
        if device is not None:
            self._free.remove(device)
        self._start(*claimed, device)
        return True

    def _start(self, fence: Fence, kind: str, device: str | None) -> None:
        log.info("%s starts on %s", fence.job_id, device or "no device")
        ours, theirs = self._context.Pipe()
        given = Task(
            fence=fence,
            kind=kind,
            device=device or "cpu",
            database=self._settings.database,
            datasets=self._settings.datasets,
            cache=self._settings.cache,
            checkpoints=self._settings.checkpoints,
            weights=self._settings.weights,
            runs=self._settings.runs,
            uploads=self._settings.uploads,
            mirrors=self._settings.mirror,
        )
        process = self._context.Process(target=task.work, args=(given, self._host, theirs))
        try:
            process.start()
        except (EOFError, ConnectionError) as error:  # the forkserver died just then
            log.error("no process for %s: %s", fence.job_id, error or type(error).__name__)
            self._not_started(fence, device, ours)
            return
        finally:
            theirs.close()
        self._children.append(Child(fence, process, kind, ours, time.monotonic(), device))
        self._register("child", process.pid or 0, job_id=fence.job_id, device=device)

    def _not_started(self, fence: Fence, device: str | None, channel: Connection) -> None:
        channel.close()
        if device is not None:
            self._free.append(device)
        with self._sessions.begin() as session:
            endings.write(session, fence, endings.RELEASED)
        self._forget_archive(fence.job_id)  # cancelled just then
        time.sleep(TROUBLE_SECONDS)

    # -- devices ---------------------------------------------------------------------------

    def _probe(self) -> list[str]:
        """The devices of this machine, asked in a child; also warms the forkserver up and sweeps
        the store.
        """
        ours, theirs = self._context.Pipe()
        with self._sessions() as session:
            known = checkpoints.ids_of_all(session)
        given = (theirs, self._settings.checkpoints, known)
        process = self._context.Process(target=task.probe, args=given)
        process.start()
        theirs.close()
        found, parent = ours.recv()
        process.join()
        self._forkserver = parent if parent != os.getpid() else None
        return list(found)

    def _hand_out_devices(self) -> None:
        for one in self._children:
            self._hear(one)
        for one in self._children:
            if one.waits_for_device and one.channel and self._free:
                one.device, one.waits_for_device = self._free.pop(0), False
                with contextlib.suppress(ConnectionError):  # it just died: reaped next
                    one.channel.send(one.device)

    def _hear(self, one: Child) -> None:
        """What a child says of its device; its silence at the end is heard once, then no more."""
        while one.channel and one.channel.poll():
            try:
                word = one.channel.recv()
            except (EOFError, ConnectionError):
                one.channel.close()
                one.channel = None
                return
            if isinstance(word, int):
                self._forkserver = word if word != os.getpid() else None
            elif word == "take":
                one.waits_for_device = True
            elif one.device is not None:
                self._free.append(one.device)
                one.device = None

    # -- endings ---------------------------------------------------------------------------

    def _reap(self) -> bool:
        ended = [one for one in self._children if not one.process.is_alive()]
        for one in ended:
            self._settle(one)
            self._children.remove(one)
            if one.device is not None:
                self._free.append(one.device)
            if one.channel:
                one.channel.close()
            one.process.join()
        return bool(ended)

    def _settle(self, one: Child) -> None:
        """Writes how a job ended: as its `exit.json` says; without one it was lost, or we stop."""
        # A forkserver that dies leaves its children alive, but nobody hears of their end any more.
        orphaned = processes.is_running(one.pid)
        processes.end_group(one.pid)  # the child itself then, or whatever it had started
        run = self._settings.runs / one.fence.job_id
        record = endings.read(run, one.fence.claim)
        if record is None and (orphaned or self._stopping):
            record = endings.RELEASED
        record = record or endings.of_exit_code(one.process.exitcode)
        with self._sessions.begin() as session:
            process_rows.forget(session, pid=one.pid, host=self._host)
            endings.write(session, one.fence, record)
        # Left by a process that was killed; the next claim's must not be taken to have begun.
        with contextlib.suppress(OSError):  # at worst an attempt is counted
            (run / processes.PROCESS_FILE).unlink()
        if one.kind == "import":
            self._forget_archive(one.fence.job_id)
            self._sweep()
        log.info("%s %s, exit code %s", one.fence.job_id, record.state, one.process.exitcode)

    def _settle_earlier(self) -> None:
        """What an earlier worker of this host left: its children are ended, its jobs settled.

        Lost is a job whose process had begun and is gone. What had no process yet, or one that was
        well until now, went with its worker.
        """
        gone = processes.end_stale_groups(self._settings.runs, self._host)
        with self._sessions.begin() as session:
            behind = jobs.left_behind(session, host=self._host, but=self._id)
            for fence in behind:
                record = endings.read(self._settings.runs / fence.job_id, fence.claim)
                if record is None and fence.job_id in gone:
                    record = endings.lost("ended with all of its worker")
                record = record or endings.RELEASED
                endings.write(session, fence, record)
                log.warning("%s %s by an earlier worker", fence.job_id, record.state)
        for fence in behind:
            self._forget_archive(fence.job_id)

    def _forget_archive(self, job_id: str) -> None:
        with self._looking() as session:
            endings.forget_archive(session, job_id, self._settings.uploads)

    def _sweep(self) -> None:
        """Half a data set, left by an import that is over: its process was killed."""
        with self._looking() as session:
            over = jobs.ended(session, staging.jobs(self._settings.datasets))
        staging.sweep(self._settings.datasets, over)

    # -- watching --------------------------------------------------------------------------

    def _housekeep(self) -> None:
        now = time.monotonic()
        if now - self._watched >= WATCH_SECONDS and self._children:
            self._watched = now
            self._watch(now)
        if now - self._housekept >= LOOK_SECONDS:
            self._housekept = now
            self._check_home()
            self._register("supervisor", os.getpid())
            if self._forkserver is not None:
                self._register("forkserver", self._forkserver)
            for one in self._children:
                self._register("child", one.pid, job_id=one.fence.job_id, device=one.device)
            for job_id in self._leases.give_up_silent():
                log.warning("%s: its worker was lost", job_id)
                self._forget_archive(job_id)

    def _check_home(self) -> None:
        """Raises `Problem` home_gone. What runs cannot be saved any more, nor written down."""
        if engine.identity(self._settings.database) != self._database:
            for one in self._children:
                one.kill()
                one.process.join()
            self._children.clear()
            raise Problem("home_gone", f"The home {self._settings.home} is not there any more.")

    def _watch(self, now: float) -> None:
        """Ends children that lost their claim, do not heed a cancel, or never came up."""
        with self._sessions.begin() as session:
            held = jobs.held_by(session, self._id)
            for one in self._children:
                if held.get(one.fence) is State.starting:
                    jobs.heartbeat(session, one.fence)
        for one in self._children:
            self._watch_one(one, held.get(one.fence), now)

    def _watch_one(self, one: Child, state: State | None, now: float) -> None:
        hangs = state is State.starting and now - one.began > START_SECONDS
        if state is None or hangs:
            log.warning("%s: ending its process %s", one.fence.job_id, one.pid)
            one.kill()
        elif state is State.cancelling:
            if one.cancelling_since is None:
                one.cancelling_since = now
                processes.ask_to_end(one.pid)
            elif now - one.cancelling_since > KILL_AFTER_SECONDS:
                one.kill()

    def _register(self, role: str, pid: int, **more: Any) -> None:
        with self._sessions.begin() as session:
            process_rows.seen(session, role=role, pid=pid, host=self._host, **more)

    def _wait(self, seconds: float) -> None:
        """Until a child ends or says something, or `seconds` have passed."""
        sources: list[Any] = [one.process.sentinel for one in self._children]
        sources += [one.channel for one in self._children if one.channel]
        connection.wait(sources, timeout=seconds)

    # -- stopping --------------------------------------------------------------------------

    def _stop_children(self) -> None:
        """Asks, waits, kills; every job goes back to the queue without an attempt counted."""
        self._stopping = True
        for one in self._children:
            processes.ask_to_end(one.pid)
        deadline = time.monotonic() + STOP_SECONDS
        while any(one.process.is_alive() for one in self._children) and time.monotonic() < deadline:
            time.sleep(BUSY_SECONDS)
        for one in self._children:
            one.kill()
            one.process.join()
        self._reap()

    def _say_goodbye(self) -> None:
        with self._sessions.begin() as session:
            for pid in (os.getpid(), self._forkserver or 0):
                process_rows.forget(session, pid=pid, host=self._host)


def _start_method(settings: Settings) -> str:
    if settings.start_method != "auto":
        return settings.start_method
    return "forkserver" if sys.platform == "linux" else "spawn"
