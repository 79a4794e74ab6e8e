"""The servers that are measured: each in processes of its own, on a free port of this machine.

Knows how they start, pause and end; nothing of load.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from benchmarks.imports import cpu_seconds
from benchmarks.listeners import say
from benchmarks.many_jobs import free_port
from benchmarks.serving import networks
from danlu import environment

_START_SECONDS, _END_SECONDS = 90.0, 30.0
_ROLES = {"server", "predictor", "supervisor", "forkserver"}
# A server that takes less of a core than this has nothing to do any more.
_IDLE_SHARE, _LOOK_SECONDS, _SETTLE_SECONDS = 0.1, 0.2, 60.0


@dataclass(slots=True)
class Server:
    """A contender that runs. `path` is what is posted to."""

    name: str
    url: str
    path: str
    process: subprocess.Popen[bytes]
    ready: str
    log: Path
    is_danlu: bool = False
    _pid: int | None = None

    @property
    def target(self) -> str:
        return self.url + self.path

    def wait(self) -> Self:
        """Returns when it answers."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(httpx.TransportError):
                if httpx.get(self.url + self.ready, timeout=5).status_code == 200:
                    return self
            time.sleep(0.1)
        say(self.log.read_text(errors="replace")[-2000:])
        raise RuntimeError(f"{self.name} does not start")

    def pids(self) -> list[int]:
        """The processes that answer, now; of danlu without the worker's."""
        if self._pid is None:
            self._pid = self.roles()["server"] if self.is_danlu else self.process.pid
        return tree(self._pid)

    def said(self) -> dict[int, str]:
        """Of danlu: what its processes say that they are."""
        told = httpx.get(f"{self.url}/system").raise_for_status().json()
        return {one["pid"]: one["role"] for one in told["processes"]}

    def roles(self) -> dict[str, int]:
        """Of danlu: its processes by what they are, once all have told."""
        deadline = time.monotonic() + _START_SECONDS
        found: dict[str, int] = {}
        while not found.keys() >= _ROLES and time.monotonic() < deadline:
            found = {role: pid for pid, role in self.said().items()}
            time.sleep(_LOOK_SECONDS)
        return found

    def ask(self, image: bytes) -> str:
        """The label of an image."""
        files = {"file": ("image.jpg", image, "image/jpeg")}
        response = httpx.post(self.target, files=files, timeout=60)
        told: dict[str, Any] = response.raise_for_status().json()
        label: str = (told["predictions"][0] if "predictions" in told else told)["label"]
        return label

    def cpu_seconds(self) -> float:
        """What those that answer have computed so far."""
        return sum(map(cpu_seconds, self.pids()))

    def settle(self) -> None:
        """Returns when what was asked is done: a client that left is often computed for still."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < deadline:
            before = self.cpu_seconds()
            time.sleep(_LOOK_SECONDS)
            if self.cpu_seconds() - before < _IDLE_SHARE * _LOOK_SECONDS:
                return

    def pause(self) -> None:
        """Takes no part until `go_on`: some ask for work without end. danlu does not, and stays."""
        if not self.is_danlu:
            self._tell(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `pause`."""
        if not self.is_danlu:
            self._tell(signal.SIGCONT)

    def _tell(self, number: signal.Signals) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)


@contextmanager
def danlu(
    name: str,
    home: Path,
    *,
    data: Path | None = None,
    settings: Mapping[str, str] | None = None,
    model: str = networks.ALIAS,
) -> Iterator[Server]:
    """`danlu serve` on this home; `settings` are variables without DANLU_."""
    port = free_port()
    variables = environment.variables()
    variables |= {f"DANLU_{key}": value for key, value in (settings or {}).items()}
    if data is not None:
        variables["DANLU_DATASETS_DIR"] = str(data)
    command = [sys.executable, "-P", "-m", "danlu", "serve"]
    command += ["--port", str(port), "--home", str(home)]
    log = home / "log"
    with _started(command, variables, log) as process:
        path, url = f"/predict?model={model}", f"http://127.0.0.1:{port}"
        yield Server(name, url, path, process, "/readyz", log, is_danlu=True)


@contextmanager
def plain(name: str, form: str, checkpoint: Path, work: Path) -> Iterator[Server]:
    """A server of `benchmarks.serving.plain`."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.serving.plain", form, str(checkpoint)]
    command += ["--port", str(port)]
    log = work / f"{form}.log"
    with _started(command, environment.variables(), log) as process:
        yield Server(name, f"http://127.0.0.1:{port}", "/predict", process, "/docs", log)


@contextmanager
def litserve(name: str, python: Path, checkpoint: Path, work: Path) -> Iterator[Server]:
    """The server of `benchmarks.serving.lit`."""
    port = free_port()
    command = [str(python), "-m", "benchmarks.serving.lit", str(checkpoint), "--port", str(port)]
    log = work / "litserve.log"
    with _started(command, environment.variables(), log) as process:
        yield Server(name, f"http://127.0.0.1:{port}", "/predict", process, "/health", log)


def tree(pid: int) -> list[int]:
    """A process and all that it has started, and they."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(folder.name))
    found = [pid]
    for one in found:  # grows meanwhile
        found += parents.get(one, [])
    return found


@contextmanager
def _started(
    command: Sequence[str], variables: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Ended at the end, with all that it has started."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        left = tree(process.pid)
        for pid in left:  # one that pauses hears nothing
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
