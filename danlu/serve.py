"""`danlu serve`: the small parent of the server and of the worker, which it starts and ends.

Knows how programs are started, restarted and stopped; nothing of what they do, and no torch.
"""

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Self

from danlu import environment, key
from danlu.errors import DanluError

# -P: a folder named app or workers where the command is typed must not win over ours.
COMMANDS: Mapping[str, Sequence[str]] = {
    "server": (sys.executable, "-P", "-m", "app"),
    "worker": (sys.executable, "-P", "-m", "workers"),
}
PORT_TAKEN = "port_taken"
SETTING_WRONG, DATABASE_NEWER, HOME_IN_USE = "setting_wrong", "database_newer", "home_in_use"
HOME_GONE = "home_gone"
HOPELESS: Mapping[int, tuple[str, str, str]] = {
    2: (SETTING_WRONG, "A setting is wrong; the line above says which.", "Correct or unset it."),
    4: (
        DATABASE_NEWER,
        "The database of this home was made by a newer danlu.",
        "Install the newer version, or choose another --home.",
    ),
    5: (
        HOME_IN_USE,
        "Another worker, or another machine, uses this home.",
        "Stop it first, choose another --home, or serve with --no-worker beside it.",
    ),
    6: (
        HOME_GONE,
        "The home was deleted or replaced while danlu ran.",
        "Put it back, or start danlu again for a new one.",
    ),
}
"""Exit codes of a half that no restart helps: code, what is wrong, and what to do."""
LONGEST_PAUSE = 30.0  # seconds before a half that keeps dying is started again
HEALTHY = 60.0  # seconds of life after which a half counts as healthy again
GRACE = 20.0  # seconds that the halves have to drain and save when asked to stop
TICK = 0.1

Announce = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is and what it asks for; `url` is None without a server.

    `key` is a key that was made for it and is nowhere else to be seen; `asks` says whether it
    wants any.
    """

    url: str | None
    home: Path
    key: str | None = None
    asks: bool = False


@dataclass
class _Half:
    """The server or the worker: its program, its process while there is one, and its pauses."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = 0.0
    due: float = 0.0

    def put_off(self, why: str, announce: Announce, *, lived: float) -> None:
        """It starts again after the next pause, and people are told."""
        self.pause = next_pause(self.pause, lived)
        self.due = time.monotonic() + self.pause
        announce(f"The {self.name} {why}; it starts again in {self.pause:.0f} s.")


class Halves:
    """The programs of one home. As a context: started at the beginning, all gone at the end.

    Every program leads a process group and holds the read end of a pipe whose write end is ours:
    a Ctrl-C in the terminal reaches us alone, and not even SIGKILL of us leaves them behind.
    """

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        *,
        home: Path,
        listener: socket.socket | None = None,
        variables: Mapping[str, str] | None = None,
        of_server: Mapping[str, str] | None = None,
        output: IO[bytes] | None = None,
        grace_seconds: float = GRACE,
        hurry: Callable[[], bool] = lambda: False,
    ) -> None:
        self._halves = [_Half(name, command) for name, command in commands.items()]
        self._listener = listener
        self._output = output
        self._grace_seconds = grace_seconds
        self._hurry = hurry
        self._read_fd, self._write_fd = os.pipe()
        self._variables = {
            **(environment.variables() if variables is None else variables),
            "DANLU_HOME": str(home),
            "DANLU_PARENT_FD": str(self._read_fd),
        }
        self._of_server = of_server or {}

    def __enter__(self) -> Self:
        try:
            for half in self._halves:
                self._start(half)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def ended(self) -> str | None:
        """What happened to the first half that has ended by itself; None while all run."""
        for half in self._halves:
            if half.process is not None and half.process.poll() is not None:
                return f"the {half.name} {_reason(half.process.returncode)}"
        return None

    def tend(self, announce: Announce) -> None:
        """Start each half that died again: after 1, 2, 4 … 30 s, and 1 s after a healthy life.

        One that cannot be started just then counts as dead once more.
        Raises `DanluError` (`database_newer`, `home_in_use`) when no restart helps.
        """
        now = time.monotonic()
        for half in self._halves:
            if half.process is None:
                if now >= half.due:
                    self._start_again(half, announce)
            elif (code := half.process.poll()) is not None:
                self._sweep(half)
                if code in HOPELESS:
                    error, detail, hint = HOPELESS[code]
                    raise DanluError(error, detail, hint=hint)
                half.put_off(_reason(code), announce, lived=now - half.started)

    def stop(self) -> None:
        """Ask all to stop, wait for the grace time or until it is `hurry`, kill what is left."""
        if self._listener is not None:
            # Nobody new may queue for a server that is about to go.
            self._listener.close()
        running = [half for half in self._halves if half.process is not None]
        try:
            for half in running:
                _process(half).terminate()
            deadline = time.monotonic() + self._grace_seconds
            while any(_process(half).poll() is None for half in running):
                if self._hurry() or time.monotonic() > deadline:
                    break
                time.sleep(TICK / 2)
        finally:
            for half in running:
                self._sweep(half)
            for fd in (self._read_fd, self._write_fd):
                os.close(fd)
            self._halves = []
            self._read_fd = self._write_fd = -1

    def _start(self, half: _Half) -> None:
        fds, variables = [self._read_fd], dict(self._variables)
        # The server's alone: a worker that held it too would keep the port when all else is gone.
        if half.name == "server" and self._listener is not None:
            host, port = self._listener.getsockname()[:2]
            fds.append(self._listener.fileno())
            listening = {"DANLU_PORT": str(port), "DANLU_LISTEN_FD": str(fds[1])}
            variables |= {"DANLU_HOST": host, **listening, **self._of_server}
        if half.name == "worker":  # nor has it, or what it trains, any use for the key
            for name in (key.VARIABLE, key.FILE_VARIABLE):
                variables.pop(name, None)
        half.process = subprocess.Popen(
            half.command,
            env=variables,
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
        )
        half.started = time.monotonic()

    def _start_again(self, half: _Half, announce: Announce) -> None:
        try:
            self._start(half)
        except OSError as error:  # no process or memory is free now, which is no end of the other
            half.put_off(f"could not be started: {error.strerror}", announce, lived=0.0)

    @staticmethod
    def _sweep(half: _Half) -> None:
        """Kill what is left of a half: itself, or helpers that outlived it in its group."""
        process = _process(half)
        # macOS says that we may not, where it means that all have ended.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        half.process = None


def serve(
    *,
    host: str,
    port: int,
    home: Path,
    announce: Announce,
    ready: Callable[[Place], None],
    root_path: str = "/",
    no_auth: bool = False,
    commands: Mapping[str, Sequence[str]] = COMMANDS,
    grace_seconds: float = GRACE,
) -> None:
    """Run the halves until SIGTERM, SIGINT or SIGHUP. Call it in the main thread.

    `ready` is told the place once the port is ours; `announce` hears of deaths. Where others reach
    the server it gets a key, for as long as this runs, unless it has one or `no_auth` insists.
    Raises `DanluError` when there is nothing to serve: none is left running then.
    """
    home = make_home(home)
    place, listener = Place(None, home), None
    of_server = {"DANLU_HOST": host, "DANLU_ROOT_PATH": root_path}
    if "server" in commands:
        given = key.found_for_server(no_auth=no_auth)
        listener = listen(host, port)
        made = None if given or no_auth else key.made_for(listener)
        of_server |= {key.VARIABLE: made} if made else {}
        of_server |= {"DANLU_NO_AUTH": "1"} if no_auth else {}
        place = Place(url(listener), home, made, asks=bool(given or made))
    with _counted_signals() as asked:
        ready(place)  # who hears of it may say at once that it is to stop
        halves = Halves(
            commands,
            home=home,
            listener=listener,
            of_server=of_server,
            grace_seconds=grace_seconds,
            hurry=lambda: asked.count(signal.SIGINT) > 1,
        )
        with halves:
            while not asked:
                halves.tend(announce)
                time.sleep(TICK)
            announce("Stopping; press Ctrl-C again to stop at once.")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, ours from now on; port 0 takes a free one. Raises `DanluError`."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        hint = "Use 127.0.0.1, or an address of this machine."
        raise DanluError("host_unknown", f"{host!r} is no address.", hint=hint) from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    # A port of a server that has just ended may be used at once; one that is listened on may not.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        detail = f"Port {port} of {host} cannot be used: {error.strerror}."
        hint = "Is danlu running already? Choose another with --port; --port 0 takes a free one."
        raise DanluError(PORT_TAKEN, detail, hint=hint) from None
    return listener


def url(listener: socket.socket) -> str:
    """Address to open in a browser."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_home(home: Path) -> Path:
    """The absolute home, made if it is missing. Raises `DanluError`."""
    home = home.expanduser().absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        detail = f"The home {home} cannot be made: {error.strerror}."
        raise DanluError("home_unusable", detail, hint="Choose another with --home.") from None
    return home


def next_pause(last: float, lived: float) -> float:
    """Seconds before the next start of a half whose last pause and life were this long."""
    return 1.0 if lived >= HEALTHY else min(max(1.0, last * 2), LONGEST_PAUSE)


def stop_signals() -> list[signal.Signals]:
    """Signals that ask a program of ours to stop."""
    signals = [signal.SIGINT, signal.SIGTERM]
    # nohup means it: a terminal that is closed does not stop us then.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    return signals


def _process(half: _Half) -> subprocess.Popen[bytes]:
    assert half.process is not None  # asked only of halves that were started
    return half.process


def _reason(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


@contextmanager
def _counted_signals() -> Iterator[Sequence[int]]:
    """The signals that have asked us to stop, so far. Nothing is interrupted by them."""
    asked: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    before = {number: signal.signal(number, note) for number in stop_signals()}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
