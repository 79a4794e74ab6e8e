"""Whether a server answers and a worker works: by HTTP, by what they last said, by their lock."""

import socket
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from app.admin import screen
from app.admin.findings import Finding, fine, problem, warning
from database.backups import Contents, Seen
from database.tables import ACTIVE
from settings import Settings

_ALIVE_SECONDS = 15.0
_START_SECONDS = 60.0
_TIMEOUT_SECONDS = 5.0
_LOCKS = Path("/proc/locks")


def server(settings: Settings, url: str) -> Iterator[Finding]:
    """What answers at `url`."""
    try:
        with _client(settings, url) as client:
            yield from _talk(client, settings)
    except (httpx.ConnectError, httpx.ConnectTimeout):
        yield fine("server", f"No server answers at {url}; danlu serve starts one.")
    except httpx.TimeoutException:
        hint = "If it stays so, restart danlu serve."
        yield problem("server", f"{url} takes connections and does not answer.", hint)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError):
        hint = "Is DANLU_URL right? danlu serve --port 0 takes a free port."
        yield warning("server", f"Something else than danlu answers at {url}.", hint)


def worker(settings: Settings, contents: Contents) -> Iterator[Finding]:
    """Whether anybody trains here, and whether they are well."""
    now = time.time()
    workers = [one for one in contents.processes if one.role == "supervisor"]
    alive = [one for one in workers if now - one.seen_at < _ALIVE_SECONDS]
    active = sum(state in ACTIVE for state in contents.jobs.values())
    hosts = sorted({one.host for one in alive})
    if len(hosts) > 1 and settings.database_url is None:
        hint = "Give each machine a home of its own: SQLite does not hold on two."
        yield problem("worker", f"Workers of {', '.join(hosts)} share this home.", hint)
    if alive:
        yield fine("worker", ", ".join(f"pid {one.pid} on {one.host}" for one in alive) + ".")
    elif pid := _holder(settings.home):
        if now - _lock(settings.home).stat().st_mtime < _START_SECONDS:
            yield fine("worker", f"Process {pid} is starting.")
            return
        last = _last_word(workers, pid, now)
        hint = f"It hangs or was stopped. Look at it, and end it: kill -9 {pid}"
        yield problem("worker", f"Process {pid} holds the home, and {last}.", hint)
    elif active:
        jobs = screen.counted(active, "job has not ended", "jobs have not ended")
        hint = "danlu serve or danlu worker starts one; the jobs go on then."
        yield warning("worker", f"{jobs}, and no worker runs.", hint)
    else:
        yield fine("worker", "None runs, and no job waits for one.")


def _client(settings: Settings, url: str) -> httpx.Client:
    address = url if "://" in url else f"http://{url}"
    key = settings.api_key
    headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
    # A proxy for the internet must not be asked for a server of this machine.
    return httpx.Client(
        base_url=address, headers=headers, timeout=_TIMEOUT_SECONDS, trust_env=False
    )


def _talk(client: httpx.Client, settings: Settings) -> Iterator[Finding]:
    url = str(client.base_url).rstrip("/")
    ready = client.get("/readyz")
    state = dict(ready.json())
    if ready.status_code == 503 and state["code"] == "not_ready":
        hint = "Wait some seconds; if it stays so, see what danlu serve prints."
        yield warning("server", f"{url} is not ready: {state['detail']}", hint)
        return
    if state.get("status") != "ready":
        raise ValueError("not danlu")
    told = client.get("/system")
    if told.status_code != 200:
        yield fine("server", f"danlu answers at {url}; it tells no more without its key.")
        return
    yield from _compare(url, told.json(), settings)


def _compare(url: str, told: dict[str, Any], settings: Settings) -> Iterator[Finding]:
    ours, theirs = version("danlu"), told["versions"]["danlu"]
    yield fine("server", f"danlu {theirs} answers at {url}.")
    if theirs != ours:
        hint = "Restart it, if it is meant to be the same."
        yield warning("server", f"It is danlu {theirs}, and this is danlu {ours}.", hint)
    if Path(told["home"]).resolve() != settings.home.resolve():
        hint = "Look at that one with --home, or start a server of this one."
        yield warning("server", f"It uses another home: {told['home']}.", hint)


def _lock(home: Path) -> Path:
    return home / f"worker-{socket.gethostname()}.lock"


def _holder(home: Path) -> int | None:
    """The process that holds the lock of this host's worker, where the system tells (proc(5))."""
    path = _lock(home)
    try:
        inode = path.stat().st_ino
        held = [line.split() for line in _LOCKS.read_text().splitlines()]
        for words in held:
            if "FLOCK" in words and any(word.endswith(f":{inode}") for word in words):
                return int(path.read_text().strip())
    except (OSError, ValueError):
        return None
    return None


def _last_word(workers: list[Seen], pid: int, now: float) -> str:
    seen = [now - one.seen_at for one in workers if one.pid == pid]
    return f"was last heard of {seen[0]:.0f} seconds ago" if seen else "has never been heard of"
