"""The supervisor: claims jobs, gives each a process and a device, and writes how it ended.

Never computes and never imports torch itself. What a job does is `run_job`'s business.
"""

import contextlib
import logging
import os
import secrets
import socket
import time
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from data_store import unfinished
from database import checkpoints, engine, jobs
from database.jobs import State
from database.leases import LEASE_SECONDS, LOOK_SECONDS, Watch
from problems import Problem
from settings import Settings
from workers import processes, standby, task
from workers.aftermath import Aftermath
from workers.children import Child, Launcher
from workers.claiming import Claimed, Claims
from workers.pool import Pool
from workers.presence import Presence
from workers.standby import Standby

log = logging.getLogger(__name__)

BUSY_SECONDS, IDLE_SECONDS = 0.05, 0.1
WATCH_SECONDS = 0.5
# Between two tries when the database does not answer.
TROUBLE_SECONDS = 1.0
STOP_SECONDS = 8.0


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
        both = (self._sessions, self._looking)
        self._claims = Claims(*both, worker_id=self._id, host=self._host)
        self._aftermath = Aftermath(settings, *both)
        self._presence = Presence(self._sessions, self._host)
        self._launcher = Launcher(settings)
        self._standby = Standby(self._launcher, self._host, forget=self._presence.forget)
        self._children: list[Child] = []
        self._pool = Pool([], cores=1)
        self._forkserver: int | None = None
        self._ready = self._stopping = False
        self._housekept = self._watched = 0.0

    def stop(self) -> None:
        """Ends the loop soon. From any thread, or a signal handler."""
        self._stopping = True

    @property
    def waits(self) -> bool:
        """Whether it looks at nothing while a forkserver imports torch; a SystemExit ends that, and
        a second one could disturb what the first has begun.
        """
        return not self._stopping and (not self._ready or self._launcher.is_waiting)

    def run(self) -> None:
        """Claims and watches until `stop`, then gives the running jobs back to the queue."""
        self._settings.runs.mkdir(parents=True, exist_ok=True)
        self._aftermath.settle_earlier(host=self._host, but=self._id)
        unfinished.sweep(self._settings.datasets, self._settings.weights)
        self._aftermath.sweep()
        found, cores = self._probe()
        self._pool = Pool(found, cores=cores, jobs_per_device=self._settings.jobs_per_device)
        self._ready = True
        log.info("ready: %s", ", ".join(found * self._settings.jobs_per_device))
        pause = BUSY_SECONDS
        try:
            with contextlib.suppress(SystemExit):  # while it `waits`
                while not self._stopping:
                    busy = self._turn()
                    pause = BUSY_SECONDS if busy else min(pause * 1.2, IDLE_SECONDS)
                    self._wait(pause)
        finally:  # also after an error: Python would wait for the children until they are done
            self._stop_children()
        self._presence.forget_all()

    def _turn(self) -> bool:
        """One round; True when something happened."""
        try:
            ended = self._reap()
            self._hand_out_devices()
            self._housekeep()
            if self._claim() or ended:
                return True
            self._stand_by()  # there is nothing else to do
            return False
        except SQLAlchemyError as error:
            # A locked or unreachable database is tried again; leases bridge the gap.
            log.error("the database did not answer: %s", getattr(error, "orig", error))
            time.sleep(TROUBLE_SECONDS)
            return False

    # -- starting --------------------------------------------------------------------------

    def _claim(self) -> bool:
        if self._forkserver is not None and not processes.is_running(self._forkserver):
            log.warning("the forkserver %s has ended, another one starts", self._forkserver)
            self._reap()  # its children live on, and nobody would look at them until that is there
            # A job that waited until that has imported torch would be without a sign of life, for
            # longer than its lease where the cores are busy.
            with contextlib.suppress(EOFError, ConnectionError):  # it has ended too
                self._probe()
            return False
        claimed = self._claims.next(self._children, self._pool)
        if claimed is None:
            return False
        self._pool.take(claimed.devices)
        self._start(claimed)
        return True

    def _start(self, claimed: Claimed) -> None:
        fence, devices = claimed.fence, claimed.devices
        log.info("%s starts on %s", fence.job_id, task.named(devices) or "no device")
        try:
            process, channel, stood_by = self._process(claimed)
        except BaseException as error:  # until there is a child nobody else would give these back
            self._pool.give_back(devices)
            self._aftermath.release(fence)
            if not isinstance(error, (EOFError, ConnectionError)):  # as when the forkserver died
                raise
            log.error("no process for %s: %s", fence.job_id, error or type(error).__name__)
            time.sleep(TROUBLE_SECONDS)
            return
        now = time.monotonic()
        of_job = (claimed.kind, channel, now, claimed.need, devices)
        one = Child(fence, process, *of_job, stood_by=stood_by)
        self._children.append(one)
        self._presence.child(one)

    def _process(self, claimed: Claimed) -> tuple[BaseProcess, Connection, bool]:
        """One that does the job, its channel, and whether it stood by. Raises what a `Launcher`
        does, `OSError` where the system has no room for it, and SystemExit when told to end.
        """
        given = claimed.task(self._settings)
        suits = standby.suits(claimed.recipe, claimed.need)
        waited = self._standby.give(given) if suits else None
        self._standby.leave(claimed.devices)
        made = waited or self._launcher.start(task.work, given, self._host)
        return (*made, waited is not None)

    def _stand_by(self) -> None:
        if self._standby.make(self._pool.unused()) and self._standby.shown:
            self._presence.standby(*self._standby.shown)

    # -- devices ---------------------------------------------------------------------------

    def _probe(self) -> tuple[list[str], int]:
        """Devices of this machine and its cores; also warms the forkserver up, sweeps the store."""
        with self._sessions() as session:
            known = checkpoints.known(session)
        found, cores, parent = self._launcher.ask(
            task.probe, self._settings.checkpoints, known, unless=lambda: self._stopping
        )
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
            self._standby.leave(devices)
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
        for one in ended:  # all, before the first that cannot be settled while a disk is full
            one.end_rest()
        for one in ended:
            self._aftermath.settle(one, stopping=self._stopping)
            self._presence.forget(*one.pids)
            self._children.remove(one)
            self._give_back(one)
            if one.channel:
                one.channel.close()
            one.process.join()
        return bool(ended)

    # -- watching --------------------------------------------------------------------------

    def _housekeep(self) -> None:
        now = time.monotonic()
        if now - self._watched >= WATCH_SECONDS and self._children:
            self._watched = now
            self._watch(now)
        if now - self._housekept >= LOOK_SECONDS:
            self._housekept = now
            self._check_home()
            self._say_who_is_there()
            for job_id in self._leases.give_up_silent():
                log.warning("%s: its worker was lost", job_id)
                self._aftermath.forget_archive(job_id)

    def _check_home(self) -> None:
        """Raises `Problem` home_gone. What runs cannot be saved any more, nor written down."""
        if engine.identity(self._settings.database) != self._database:
            self._standby.end()
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
            one.watch(held.get(one.fence), now)

    def _say_who_is_there(self) -> None:
        self._presence.supervisor(self._pool)
        if self._forkserver is not None:
            self._presence.forkserver(self._forkserver)
        if self._standby.shown is not None:
            self._presence.standby(*self._standby.shown)
        for one in self._children:
            self._presence.child(one)

    def _wait(self, seconds: float) -> None:
        """Until a child ends or says something, or `seconds` have passed."""
        sources: list[Any] = [one.process.sentinel for one in self._children]
        sources += [one.channel for one in self._children if one.channel]
        connection.wait(sources, timeout=seconds)

    # -- stopping --------------------------------------------------------------------------

    def _stop_children(self) -> None:
        """Asks, waits, kills; every job goes back to the queue without an attempt counted."""
        self._stopping = True
        self._standby.end()
        for one in self._children:
            one.ask_to_end()
        deadline = time.monotonic() + STOP_SECONDS
        while any(one.process.is_alive() for one in self._children) and time.monotonic() < deadline:
            time.sleep(BUSY_SECONDS)
        for one in self._children:
            one.kill()
            one.process.join()
        self._reap()
