"""A supervisor's children played by threads: what is rare, or a race with real ones."""

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from database import events, jobs
from database.checkpoints import Known
from database.jobs import Fence, State
from workers import processes
from workers.task import Task

Sessions = sessionmaker[Session]
Play = Callable[[Task, Connection], None]
# Above the highest pid that there can be: a signal to one of these reaches nobody.
PIDS = itertools.count(2**23)


class Process:
    """A thread with what the supervisor uses of a process."""

    def __init__(self, *, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.sentinel, self._end = Pipe(duplex=False)
        self.pid = next(PIDS)
        self.exitcode = 1
        self.killed = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(target, args), daemon=True)

    def _run(self, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        target(*args)
        self._end.close()

    def start(self) -> None:
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()

    def kill(self) -> None:
        self.killed.set()


@dataclass
class Stage:
    """What children do: `plays` by the name of the job's data set; and what came of it."""

    sessions: Sessions
    devices: list[str] = field(default_factory=lambda: ["cpu"])
    plays: dict[str, Play] = field(default_factory=dict)
    started: list[Process] = field(default_factory=list)
    waits: Callable[[str, str, Connection], None] | None = None  # in place of what stands by
    ready: threading.Event = field(default_factory=threading.Event)  # one that stands by said so

    def submit(
        self,
        name: str,
        play: Play,
        *,
        kind: str = "train",
        devices: int = 1,
        recipe: Mapping[str, Any] | None = None,
        **request: Any,
    ) -> str:
        self.plays[name] = play
        asked = {"devices": devices, **(recipe or {})} if kind == "train" else None
        with self.sessions.begin() as session:
            return jobs.enqueue(
                session, kind=kind, dataset=name, recipe=asked, request=request, owner="lin"
            ).id

    def job(self, job_id: str) -> jobs.Job:
        with self.sessions() as session:
            return jobs.get(session, job_id)

    def state(self, job_id: str) -> State:
        return self.job(job_id).state

    def work(self, given: Task, host: str, channel: Connection) -> None:
        given.run.mkdir(parents=True, exist_ok=True)
        self.plays[str(self.job(given.fence.job_id).dataset_name)](given, channel)
        channel.close()

    def stand_by(self, device: str, host: str, channel: Connection) -> None:
        if self.waits is not None:
            self.waits(device, host, channel)
            return
        me = next(one for one in self.started if one._thread is threading.current_thread())
        channel.send("ready")
        self.ready.set()
        while not channel.poll(0.01):
            if me.killed.is_set():
                return
        self.work(channel.recv(), host, channel)

    def probe(self, checkpoints: Path, known: Known, channel: Connection) -> None:
        channel.send((self.devices, 4, 1))

    def process(self, **given: Any) -> Process:
        self.started.append(Process(**given))
        return self.started[-1]


class Ends:
    """The ends of a pipe; those that cross to a child stay open, as if copied."""

    def __init__(self) -> None:
        self.ours, theirs = Pipe()
        self.theirs = Crossing(theirs)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.ours, self.theirs))


class Crossing:
    def __init__(self, end: Connection) -> None:
        self.end = end

    def close(self) -> None:
        pass


class Context:
    """What `multiprocessing` gives, with threads for processes."""

    Pipe = Ends

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def Process(self, *, target: Any, args: tuple[Any, ...]) -> Process:
        crossed = tuple(one.end if isinstance(one, Crossing) else one for one in args)
        return self._stage.process(target=target, args=crossed)


def succeed(given: Task) -> None:
    outcome = {"claim": given.fence.claim, "state": "succeeded", "stop_reason": None, "error": None}
    processes.write(given.run / processes.EXIT_FILE, outcome)


def at_once(given: Task, channel: Connection) -> None:
    succeed(given)


def until_set(over: threading.Event) -> Play:
    """Succeeds once it is over."""

    def play(given: Task, channel: Connection) -> None:
        over.wait()
        succeed(given)

    return play


def download(
    downloaded: threading.Event, asked: threading.Event, devices: list[tuple[str, ...]]
) -> Play:
    """Gives its devices up until it has `downloaded`; it has `asked` for some again then, and notes
    which it got.
    """

    def play(given: Task, channel: Connection) -> None:
        channel.send("give up")
        downloaded.wait()
        channel.send("take")
        asked.set()
        devices.append(channel.recv())
        succeed(given)

    return play


def start(stage: Stage, fence: Fence) -> None:
    with stage.sessions.begin() as session:
        assert jobs.start(session, fence, pid=7, device="cpu")


def reasons(stage: Stage, job_id: str) -> list[str]:
    """What people were told of why the job came back."""
    with stage.sessions() as session:
        told = events.since(session, 0, job_id=job_id, limit=1000)
    return [one.data["reason"] for one in told if "reason" in one.data]


def never(*_: object) -> None:
    """What a child does that does not answer: it can be told nothing but SIGKILL."""
    os.kill(os.getpid(), signal.SIGSTOP)
