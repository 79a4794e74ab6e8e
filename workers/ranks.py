"""The processes of one job that train with its first one: how they start, are watched and end.

They are forks of the job's process, in its session and group, so whatever ends that ends them. The
first one, number 0, leads; it is told when another is gone. Knows nothing of what they compute.
"""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe, connection
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from data_store import leash

log = logging.getLogger(__name__)

READY = "ready"
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Follower:
    """One of them, and the pipe to it."""

    rank: int
    pid: int
    words: Connection


class Followers:
    """All of them, seen from who leads. There may be none."""

    def __init__(self, followers: Sequence[Follower] = ()) -> None:
        self._followers = followers
        self._ready = threading.Semaphore(0)
        self._over = False

    def __len__(self) -> int:
        return len(self._followers)

    @property
    def pids(self) -> list[int]:
        return [one.pid for one in self._followers]

    @property
    def words(self) -> list[Connection]:
        """To each, in order."""
        return [one.words for one in self._followers]

    def watch(
        self, *, on_failed: Callable[[Any], object], on_gone: Callable[[str], object]
    ) -> None:
        """Hears of them in a thread of its own: `on_failed` what one says of its error, `on_gone`
        how one has ended without a word.
        """
        if self._followers:
            heed = (on_failed, on_gone)
            threading.Thread(target=self._watch, args=heed, name="ranks", daemon=True).start()

    def wait(self, stop: Callable[[], bool]) -> bool:
        """Until all have said that they are ready; False: told to stop meanwhile."""
        missing = len(self._followers)
        while missing:
            if stop():
                return False
            missing -= self._ready.acquire(timeout=_LOOK_SECONDS)
        return True

    def end(self) -> None:
        """They have nothing left to do, nor to save."""
        self._over = True
        for one in self._followers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)

    def _watch(self, on_failed: Callable[[Any], object], on_gone: Callable[[str], object]) -> None:
        left = {one.words: one for one in self._followers}
        while left:
            for words in connection.wait(list(left)):
                one = left[words]  # type: ignore[index]  # a connection, as all that it waits for
                try:
                    said = one.words.recv()
                except (EOFError, OSError):
                    del left[one.words]
                    how = _how_it_ended(one.pid)
                    if not self._over:
                        on_gone(how)
                else:
                    if said == READY:
                        self._ready.release()
                    else:
                        on_failed(said)


def fork(count: int, work: Callable[[int, Connection], object]) -> Followers:
    """So many followers, number 1 and on, that do `work` and end with this process.

    To be called before this process has any threads and has computed anything: a copy of locks
    and pools that threads had is no use to anybody.
    """
    leader = os.getpid()
    followers: list[Follower] = []
    for rank in range(1, count + 1):
        ours, theirs = Pipe()
        pid = os.fork()
        if pid == 0:
            ours.close()
            for one in followers:  # else their ends would not be noticed
                one.words.close()
            _follow(leader, rank, theirs, work)
        theirs.close()
        followers.append(Follower(rank, pid, ours))
    return Followers(followers)


def _follow(
    leader: int, rank: int, words: Connection, work: Callable[[int, Connection], object]
) -> NoReturn:
    """Never returns into what is the leader's to do."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):  # heard by who leads
            signal.signal(number, signal.SIG_IGN)
        leash.tie(leader)
        work(rank, words)
    finally:
        os._exit(1)


def _how_it_ended(pid: int) -> str:
    with contextlib.suppress(ChildProcessError):
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code < 0:
            return f"was ended by signal {-code} ({signal.strsignal(-code)})"
        return f"ended with exit code {code}"
    return "is gone"
