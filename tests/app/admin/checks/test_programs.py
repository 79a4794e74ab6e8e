import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from app.admin.checks import programs
from app.admin.findings import Finding, Level
from database.backups import Contents, Seen
from settings import Settings

HOST = socket.gethostname()
READY = {"status": "ready", "database": "ok", "worker": "ok", "models": "ok"}
NOT_READY = {"code": "not_ready", "detail": "torch is still being loaded."}


@contextmanager
def answering(answers: dict[str, tuple[int, Any]]) -> Iterator[str]:
    """A server that gives these answers, and its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, {}))
            if self.path == "/system" and "key" in answers:
                wanted = f"Bearer {answers['key'][1]}"
                status, body = (
                    (status, body) if self.headers["Authorization"] == wanted else (401, {})
                )
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def system(settings: Settings, **other: Any) -> dict[str, Any]:
    from importlib.metadata import version

    return {"home": str(settings.home), "versions": {"danlu": version("danlu")}} | other


def look(settings: Settings, answers: dict[str, tuple[int, Any]]) -> list[Finding]:
    with answering(answers) as url:
        return list(programs.server(settings, url))


def test_a_server_of_this_home(settings: Settings) -> None:
    [found] = look(settings, {"/readyz": (200, READY), "/system": (200, system(settings))})

    assert found.level is Level.ok
    assert found.message.startswith("danlu ")


def test_a_server_of_another_home_and_version(settings: Settings) -> None:
    other = system(settings, home="/other", versions={"danlu": "9.9"})

    found = look(settings, {"/readyz": (200, READY), "/system": (200, other)})

    assert [one.level for one in found] == [Level.ok, Level.warning, Level.warning]
    assert "danlu 9.9" in found[1].message
    assert "/other" in found[2].message


def test_a_server_that_asks_for_a_key(settings: Settings) -> None:
    answers = {"/readyz": (200, READY), "/system": (200, system(settings)), "key": (0, "s3cret")}
    with_key = Settings(home=settings.home, api_key="s3cret")

    [without] = look(settings, answers)
    [with_it] = look(with_key, answers)

    assert "its key" in without.message
    assert "its key" not in with_it.message
    assert without.level is with_it.level is Level.ok


def test_a_server_that_is_still_starting(settings: Settings) -> None:
    [found] = look(settings, {"/readyz": (503, NOT_READY)})

    assert found.level is Level.warning
    assert "still being loaded" in found.message


@pytest.mark.parametrize(
    "answer", [(200, b"<html>"), (200, {"status": "up"}), (404, {}), (503, {}), (200, [])]
)
def test_something_else_answers(settings: Settings, answer: tuple[int, Any]) -> None:
    [found] = look(settings, {"/readyz": answer})

    assert found.level is Level.warning
    assert "else than danlu" in found.message


def test_nothing_answers(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    [found] = programs.server(settings, f"127.0.0.1:{port}")

    assert found.level is Level.ok
    assert "danlu serve starts one" in found.message


@pytest.mark.parametrize("url", ["http://[", "http://a b", ""])
def test_an_address_that_is_none(settings: Settings, url: str) -> None:
    [found] = programs.server(settings, url)

    assert found.level is not Level.problem


def worker(settings: Settings, *seen: Seen, **jobs: str) -> Finding:
    [found] = programs.worker(settings, Contents(jobs=jobs, processes=seen))
    return found


def supervisor(ago: float, *, pid: int = 7, host: str = HOST) -> Seen:
    return Seen("supervisor", host, pid, time.time() - ago)


def test_a_worker_that_was_heard_of(settings: Settings) -> None:
    found = worker(settings, supervisor(1), Seen("server", HOST, 8, time.time()))

    assert (found.level, found.message) == (Level.ok, f"pid 7 on {HOST}.")


def test_no_worker(settings: Settings) -> None:
    assert worker(settings).level is Level.ok
    assert worker(settings, job_1="succeeded").level is Level.ok
    waits = worker(settings, supervisor(60), job_1="queued", job_2="running")
    assert waits.level is Level.warning
    assert waits.message.startswith("2 jobs have not ended")


def test_two_machines_on_one_home(settings: Settings) -> None:
    seen = (supervisor(1), supervisor(1, host="other"))

    found = list(programs.worker(settings, Contents(processes=seen)))

    assert found[0].level is Level.problem
    assert "share this home" in found[0].message


@pytest.fixture
def hold(settings: Settings) -> Iterator[Callable[[float], None]]:
    """Holds the worker's lock, taken so many seconds ago."""
    settings.home.mkdir()
    path = settings.home / f"worker-{HOST}.lock"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711")
        lock.flush()

        def hold(ago: float) -> None:
            os.utime(path, (time.time() - ago,) * 2)

        yield hold


@pytest.mark.skipif(not programs._LOCKS.exists(), reason="the system tells no locks")
def test_a_worker_that_hangs(
    settings: Settings, hold: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    hold(600)
    never = worker(settings)
    once = worker(settings, supervisor(120, pid=4711))
    hold(1)

    assert never.level is once.level is Level.problem
    assert "never been heard of" in never.message
    assert "120 seconds ago" in once.message
    assert "kill -9 4711" in once.hint
    assert worker(settings).message == "Process 4711 is starting."


def test_a_lock_that_nobody_holds(settings: Settings) -> None:
    settings.home.mkdir()
    (settings.home / f"worker-{HOST}.lock").write_text("4711")

    assert worker(settings).level is Level.ok
