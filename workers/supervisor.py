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
from workers.pool import Need, Pool
from workers.task import Task

log = logging.getLogger(__name__)

BUSY_SECONDS, IDLE_SECONDS = 0.05, 0.1
WATCH_SECONDS = 0.5
# A cancel is cooperative first; memory must be free within 5 s of it (docs/decisions/0003).
KILL_AFTER_SECONDS = 3.5
# Between two tries when the database does not answer.
TROUBLE_SECONDS = 1.0
# Between two looks at a first job in line that needs more devices than are free.
LOOK_AGAIN_SECONDS = 0.5
# A child that has not reported by then hangs in its imports.
START_SECONDS = 120.0
STOP_SECONDS = 8.0
# Each job that downloads leaves its device to the next; a queue full of them must stop somewhere.
MAX_WITHOUT_DEVICE = 4
# They read and write much: more at once would only get in each other's way.
MAX_IMPORTS_AND_EXPORTS = 2


@dataclass(slots=True)
class Child:
    """A process and the claim it works on. `devices` are none while it has given its own up, and of
    kinds that `need` none. `followers` are the processes that it trains with.
    """

    fence: Fence
    process: BaseProcess
    kind: str
    channel: Connection | None
    began: float
    need: Need | None
    devices: tuple[str, ...]
    followers: tuple[int, ...] = ()
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
        self._pool = Pool([], cores=1)
        self._forkserver: int | None = None
        self._ready = self._stopping = False
        self._housekept = self._watched = self._too_few_until = 0.0

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
        found, cores = self._probe()
        self._pool = Pool(found, cores=cores, jobs_per_device=self._settings.jobs_per_device)
        self._ready = True
        log.info("ready: %s", ", ".join(found * self._settings.jobs_per_device))
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
        others = jobs.LANES[1]
        return self._claim_training() or (
            sum(one.kind in others for one in self._children) < MAX_IMPORTS_AND_EXPORTS
            and self._is_waiting(others)
            and self._claim_one(others)
        )

    def _claim_training(self) -> bool:
        """Takes the first job in line, if there are devices for it that nobody waits for. While too
        few are free for it, no other may overtake it: it would never find them free together.
        """
        kinds, now = jobs.LANES[0], time.monotonic()
        without = [one for one in self._children if one.need and not one.devices]
        full = len(without) >= MAX_WITHOUT_DEVICE or any(one.waits_for_device for one in without)
        if full or not self._pool.free() or now < self._too_few_until:
            return False
        if not self._is_waiting(kinds):
            return False
        with self._looking() as session:
            first = jobs.first(session, kinds)
        if first is None:
            return False
        need = self._pool.need(first.recipe)
        if not (devices := self._pool.free(need.places)):
            self._too_few_until = now + LOOK_AGAIN_SECONDS
            return False
        return self._claim_one(kinds, job_id=first.id, need=need, devices=devices)

    def _is_waiting(self, kinds: Sequence[str]) -> bool:
        with self._looking() as session:  # takes no lock, so it may be asked often
            return jobs.is_waiting(session, kinds)

    def _claim_one(
        self,
        kinds: Sequence[str],
        *,
        job_id: str | None = None,
        need: Need | None = None,
        devices: tuple[str, ...] = (),
    ) -> bool:
        with self._sessions.begin() as session:
            job = jobs.claim(
                session,
                worker_id=self._id,
                host=self._host,
                device=task.named(devices) or None,
                kinds=kinds,
                job_id=job_id,
            )
            claimed = None if job is None else (jobs.fence_of(job), job.kind)
        if claimed is None:
            return False
        self._pool.take(devices)
        self._start(*claimed, need=need, devices=devices)
        return True

    def _start(
        self, fence: Fence, kind: str, *, need: Need | None, devices: tuple[str, ...]
    ) -> None:
        log.info("%s starts on %s", fence.job_id, task.named(devices) or "no device")
        own, *others = (need or Need()).spread(devices) or ("cpu",)
        ours, theirs = self._context.Pipe()
        given = Task(
            fence=fence,
            kind=kind,
            device=own,
            database=self._settings.database,
            datasets=self._settings.datasets,
            cache=self._settings.cache,
            checkpoints=self._settings.checkpoints,
            weights=self._settings.weights,
            runs=self._settings.runs,
            uploads=self._settings.uploads,
            mirrors=self._settings.mirror,
            others=tuple(others),
        )
        process = self._context.Process(target=task.work, args=(given, self._host, theirs))
        try:
            process.start()
        except (EOFError, ConnectionError) as error:  # the forkserver died just then
            log.error("no process for %s: %s", fence.job_id, error or type(error).__name__)
            self._not_started(fence, devices, ours)
            return
        finally:
            theirs.close()
        one = Child(fence, process, kind, ours, time.monotonic(), need, devices)
        self._children.append(one)
        self._register_child(one)

    def _not_started(self, fence: Fence, devices: tuple[str, ...], channel: Connection) -> None:
        channel.close()
        self._pool.give_back(devices)
        with self._sessions.begin() as session:
            endings.write(session, fence, endings.RELEASED)
        self._forget_archive(fence.job_id)  # cancelled just then
        time.sleep(TROUBLE_SECONDS)

    # -- devices ---------------------------------------------------------------------------

    def _probe(self) -> tuple[list[str], int]:
        """The devices of this machine and its cores, asked in a child; also warms the forkserver up
        and sweeps the store.
        """
        ours, theirs = self._context.Pipe()
        with self._sessions() as session:
            known = checkpoints.ids_of_all(session)
        given = (theirs, self._settings.checkpoints, known)
        process = self._context.Process(target=task.probe, args=given)
        process.start()
        theirs.close()
        found, cores, parent = ours.recv()
        process.join()
        self._forkserver = parent if parent != os.getpid() else None
        return list(found), int(cores)

    def _hand_out_devices(self) -> None:
        for one in self._children:
            self._hear(one)
        for one in self._children:
            if not (one.waits_for_device and one.channel and one.need):
                continue
            devices = self._pool.free(one.need.places)
            if not devices:
                return  # nor is it overtaken by one that needs fewer
            self._pool.take(devices)
            one.devices, one.waits_for_device = devices, False
            with contextlib.suppress(ConnectionError):  # it just died: reaped next
                one.channel.send(one.need.spread(devices))

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
            elif isinstance(word, list):
                one.followers = tuple(word)
            elif word == "take":
                one.waits_for_device = True
            else:
                self._give_back(one)

    def _give_back(self, one: Child) -> None:
        self._pool.give_back(one.devices)
        one.devices = ()

    # -- endings ---------------------------------------------------------------------------

    def _reap(self) -> bool:
        ended = [one for one in self._children if not one.process.is_alive()]
        for one in ended:
            self._settle(one)
            self._children.remove(one)
            self._give_back(one)
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
            for pid in (one.pid, *one.followers):
                process_rows.forget(session, pid=pid, host=self._host)
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
            there = {"devices": self._pool.devices, "cores": self._pool.cores}
            self._register("supervisor", os.getpid(), info=there)
            if self._forkserver is not None:
                self._register("forkserver", self._forkserver)
            for one in self._children:
                self._register_child(one)
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

    def _register_child(self, one: Child) -> None:
        devices: Sequence[str | None] = (one.need or Need()).spread(one.devices)
        pids = (one.pid, *one.followers)
        for pid, device in zip(pids, devices or [None] * len(pids), strict=False):
            self._register("child", pid, job_id=one.fence.job_id, device=device)

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
