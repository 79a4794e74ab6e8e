"""A home with 10,000 jobs while one trains: how fast are GET /jobs and GET /jobs/{id}?

    python -m benchmarks.many_jobs

Makes a home of its own in a temporary folder, with 9,000 jobs that have ended and 1,000 that queue,
serves it on a free port, and asks one request after the other while a job trains. Prints a table;
exit code 1 if a 99th percentile is over 30 ms.
"""

import argparse
import random
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
from sqlalchemy import update

from benchmarks.listeners import percentile, say
from database import engine, jobs
from database.tables import Job, State

LIMIT_MS = 30.0
QUEUED = 1000


def fill(url: str, count: int) -> list[str]:
    """Makes `count` jobs, all but QUEUED of them ended, of 30 owners. Returns their ids."""
    engine.migrate(url)
    connected = engine.connect(url)
    recipe = {"dataset": "digits", "epochs": 15, "architecture": "mnist_net", "batch_size": 32}
    with engine.session_factory(connected).begin() as session:
        ids = [
            jobs.enqueue(
                session,
                kind="train",
                dataset="digits",
                recipe=recipe,
                owner=f"owner-{number % 30}",
                tags=["benchmark"],
            ).id
            for number in range(count)
        ]
        for state, share in ((State.succeeded, 0.8), (State.failed, 1.0)):
            ended = update(Job).where(Job.state == State.queued).where(Job.id.in_(ids[:-QUEUED]))
            if share < 1:
                ended = ended.where(Job.id.in_(ids[: int(share * count)]))
            session.execute(ended.values(state=state, finished_at=datetime.now(UTC)))
    connected.dispose()
    return ids


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def wait_until(http: httpx.Client, path: str, *, seconds: float = 60.0, state: str = "") -> None:
    """Until `path` answers 200, with this `state` if one is given."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            answer = http.get(path)
            if answer.status_code == 200 and state in ("", answer.json().get("state")):
                return
        except httpx.TransportError:
            pass  # it does not listen yet
        time.sleep(0.1)
    raise TimeoutError(path)


def measure(http: httpx.Client, paths: list[str]) -> list[float]:
    """Milliseconds of each, one after the other over one connection."""
    times = []
    for path in paths:
        began = time.perf_counter()
        http.get(path).raise_for_status()
        times.append((time.perf_counter() - began) * 1000)
    return times


def main(count: int, requests: int) -> int:
    """Prints the table; the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        ids = fill(f"sqlite:///{home / 'danlu.sqlite3'}", count)
        port = free_port()
        command = [sys.executable, "-m", "danlu", "serve", "--port", str(port), "--home", str(home)]
        log = (Path(folder) / "log").open("wb")
        served = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
                wait_until(http, "/readyz")
                long = {"dataset": "digits", "epochs": 100_000, "priority": 100}
                job = http.post("/train", json=long).json()["id"]
                # The worker took one of the queued jobs before this one came.
                for active in http.get("/jobs?state=starting,running").json()["items"]:
                    http.post(f"/jobs/{active['id']}/cancel")
                wait_until(http, f"/jobs/{job}", state="running")
                return report(http, ids, job, requests)
        finally:
            served.terminate()
            served.wait(60)
            log.close()


def report(http: httpx.Client, ids: list[str], job: str, requests: int) -> int:
    """Measures each kind of request; the exit code."""
    chance = random.Random(0)
    asked = {
        "GET /jobs": ["/jobs"] * requests,
        "GET /jobs?active=true": ["/jobs?active=true"] * requests,
        "GET /jobs?owner=…&limit=200": ["/jobs?owner=owner-3&limit=200"] * requests,
        "GET /jobs/{id}, any": [f"/jobs/{chance.choice(ids)}" for _ in range(requests)],
        "GET /jobs/{id}, queued": [f"/jobs/{chance.choice(ids[-QUEUED:])}"] * requests,
        "GET /jobs/{id}, at work": [f"/jobs/{job}"] * requests,
    }
    say(f"{len(ids)} jobs, {QUEUED} of them queued, one trains; {requests} requests of each kind")
    slow = False
    for name, paths in asked.items():
        times = measure(http, paths)
        p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
        slow = slow or p99 > LIMIT_MS
        say(f"{name:30} p50 {p50:6.1f} ms   p99 {p99:6.1f} ms   most {max(times):6.1f} ms")
    still = http.get(f"/jobs/{job}").json()
    say(f"the job is {still['state']}, after epoch {still['progress']['epoch']}")
    return 1 if slow or still["state"] != "running" else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=500)
    given = parser.parse_args()
    sys.exit(main(given.jobs, given.requests))
