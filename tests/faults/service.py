"""`danlu serve` as a process of its own, with all its processes found by looking at the system."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

SERVE = (sys.executable, "-P", "-m", "danlu", "serve")
ROLES = ("child", "forkserver", "supervisor", "server", "parent")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class Service:
    """One home, served; its parent may be killed and started again on the same port."""

    def __init__(self, home: Path, datasets: Path) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.url, timeout=10)
        self.log = home.with_name(f"{home.name}.log")
        self._variables = {**os.environ, "DANLU_DATASETS_DIR": str(datasets)}
        self._parent: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = (*SERVE, "--port", str(self.port), "--home", str(self.home))
        with self.log.open("ab") as log:
            self._parent = subprocess.Popen(
                command, env=self._variables, stdout=log, stderr=log, start_new_session=True
            )
        self.wait_until_up()

    def wait_until_up(self, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not self.is_up():
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.1)

    def is_up(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return self.http.get("/healthz", timeout=1).status_code == 200
        return False

    def stop(self) -> None:
        """As Ctrl-C does; then nothing may be left."""
        if self._parent is not None:
            self._parent.send_signal(signal.SIGINT)
            self._parent.wait(40)
        self.http.close()

    def bury(self) -> None:
        """The parent is gone; the system must forget it."""
        assert self._parent is not None
        self._parent.wait(10)

    def pids(self) -> dict[str, list[int]]:
        """The living processes of this home by role."""
        found: dict[str, list[int]] = {role: [] for role in ROLES}
        for pid, line in _commands():
            if (role := self._role(pid, line)) is not None:
                found[role].append(pid)
        return found

    def working(self) -> dict[str, list[int]]:
        """The living children by the job that they work on: their output goes to its log."""
        found: dict[str, list[int]] = {}
        for pid in self.pids()["child"]:
            with contextlib.suppress(OSError):
                log = Path(f"/proc/{pid}/fd/1").readlink()
                found.setdefault(log.parent.name, []).append(pid)
        return found

    def _role(self, pid: int, line: str) -> str | None:
        if not self._is_ours(pid):
            return None
        if "-m danlu serve" in line:
            return "parent"
        if "-m app" in line:
            return "server"
        if "-m workers" in line:
            return "supervisor"
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/fd/1").readlink().parent.parent == self.home / "runs":
                return "child"
        if "forkserver" in line or "resource_tracker" in line:
            return "forkserver" if "forkserver import main" in line else None
        return None

    def _is_ours(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            given = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            home = str(self.home).encode()
            return b"DANLU_HOME=" + home in given or home in command.split(b"\0")
        return False


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _commands() -> Iterator[tuple[int, str]]:
    """Of every process that lives: a zombie does not."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if (entry / "stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                    continue
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                yield int(entry.name), line
