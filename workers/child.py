"""What runs in the process of one job: prepares the process, does the work, says how it ended.

Imported before the fork, so everything that a first step needs is imported here; nothing is
computed at import, since a tensor made in the forkserver would hang its children.
"""

import gc
import logging
import os
from dataclasses import asdict
from functools import partial
from multiprocessing.connection import Connection
from typing import NoReturn

import torch._dynamo  # noqa: F401 - the first optimizer step imports it: 1 s that no job should pay

from problems import Problem
from workers import devices, following, processes, ranks, run_job
from workers.reporter import STUCK_SECONDS, Stop, Stopped
from workers.run_job import Outcome
from workers.task import Task, work

log = logging.getLogger(__name__)

# A job on the CPU must not slow the server down that answers predictions beside it.
_NICE = 10
_LOOK_SECONDS = 0.1


class HeldDevice:
    """The child's end of the pipe over which the supervisor hands out devices."""

    def __init__(self, channel: Connection, stop: Stop) -> None:
        self._channel = channel
        self._stop = stop

    def give_up(self) -> None:
        """Tells the supervisor that the device is free."""
        self._channel.send("give up")

    def take(self) -> tuple[str, ...]:
        """Waits for the supervisor to hand out devices: this process's, then those of its
        followers. Raises `Stopped` when told to stop.
        """
        self._channel.send("take")
        while not self._channel.poll(_LOOK_SECONDS):
            if self._stop():
                raise Stopped
        return tuple(self._channel.recv())


def main(task: Task, host: str, channel: Connection) -> None:
    """Does one job and ends the process. `exit.json` says how."""
    # What was imported before the fork is shared with the forkserver until somebody writes there,
    # as a collection does to every object it looks at: 60 MB. It lives as long as the process.
    gc.freeze()
    stop = Stop()
    processes.lead_session()
    if task.device == "cpu":
        os.nice(_NICE)
    # Before there are threads; and before it computes anything, which is no use to a fork.
    followers = ranks.fork(len(task.others), partial(following.work, task))
    processes.become_child(
        task.run,
        host,
        on_terminate=lambda: stop.set("release"),
        # Nobody is to blame in the job: it goes back to the queue with no attempt counted.
        on_orphaned=lambda: end(task, Outcome("released")),
    )
    channel.send(os.getppid())  # the forkserver: a new one where the last has died
    if followers:
        channel.send(followers.pids)
    followers.watch(on_failed=lambda said: end(task, Outcome(**said)), on_gone=_end_bereaved)
    held = HeldDevice(channel, stop)
    on_stuck = partial(_end_stuck, task)
    end(task, run_job.run(task, held, stop, followers=followers, on_stuck=on_stuck))


def stand_by(device: str, host: str, channel: Connection) -> None:
    """Makes the device ready and says so; then does the job that is sent. Ends when nobody is left
    who could send one.
    """
    processes.lead_session()
    devices.make_ready(device)
    try:
        channel.send("ready")
        given = channel.recv()
    except (EOFError, ConnectionError):
        os._exit(0)
    work(given, host, channel)


def end(task: Task, outcome: Outcome) -> NoReturn:
    """Ends the process; the supervisor writes the outcome."""
    processes.end_child(task.run, {"claim": task.fence.claim, **asdict(outcome)})


def _end_bereaved(how: str) -> NoReturn:
    log.error("the process of one of the devices %s", how)
    processes.end_bereaved()


def _end_stuck(task: Task) -> NoReturn:
    log.error("the training does not move: no step has ended for %d s", STUCK_SECONDS)
    stuck = Problem("worker_stuck", f"No step of the training ended for {STUCK_SECONDS:.0f} s.")
    end(task, run_job.failed(stuck))
