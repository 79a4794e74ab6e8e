"""Many who listen to one server: does everyone hear every event once, in order, and at once?

    python -m benchmarks.listeners --url http://127.0.0.1:8000

Trains `digits` while 200 clients listen to its events and 200 wait for its end; a quarter of the
listeners hang up again and again and go on with Last-Event-ID. Prints a table; exit code 1 if an
event was lost, doubled or out of order.
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
import time
from datetime import datetime
from multiprocessing.connection import Connection

import httpx

HEALTH_SECONDS = 0.02


async def listen(
    http: httpx.AsyncClient, job_id: str, heard: list[tuple[int, str, float]], *, hang_up: bool
) -> None:
    """Notes number, type and delay in seconds of each event; `hang_up` leaves every fifth time.

    What happened before the connection was there is not late: its delay is noted as 0.
    """
    last = 0
    while True:
        headers = {"Last-Event-ID": str(last)} if last else {}
        async with http.stream("GET", f"/jobs/{job_id}/events", headers=headers) as response:
            connected = time.time()
            if response.status_code == 204:
                return
            fields: dict[str, str] = {}
            count = 0
            async for line in response.aiter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                    continue
                if "data" in fields:
                    last = int(fields["id"])
                    at = datetime.fromisoformat(json.loads(fields["data"])["at"]).timestamp()
                    delay = time.time() - at if at >= connected else 0.0
                    heard.append((last, fields["event"], delay))
                    count += 1
                    if fields["event"] == "end" or (hang_up and count % 5 == 0):
                        break
                fields = {}
        if heard and heard[-1][1] == "end" and not hang_up:
            return


async def wait(http: httpx.AsyncClient, job_id: str) -> float:
    """When the long poll heard of the end."""
    while True:
        job = (await http.get(f"/jobs/{job_id}", params={"wait": 50})).json()
        if job["finished_at"]:
            return time.time() - datetime.fromisoformat(job["finished_at"]).timestamp()


def watch_health(url: str, ours: Connection) -> None:
    """Sends the milliseconds that /healthz took, each time, once it is told to stop. In a process
    of its own: in ours, the 400 clients would be measured.
    """
    times: list[float] = []
    with httpx.Client(base_url=url, timeout=90) as http:
        while not ours.poll(HEALTH_SECONDS):
            began = time.perf_counter()
            http.get("/healthz")
            times.append((time.perf_counter() - began) * 1000)
    ours.send(times)


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def say(line: str) -> None:
    """To standard output."""
    sys.stdout.write(f"{line}\n")


async def measure(url: str, *, listeners: int, polls: int, epochs: int) -> bool:
    """Runs it all and prints the table; True if everyone heard everything once and in order."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    health, theirs = multiprocessing.Pipe()
    watching = multiprocessing.get_context("spawn").Process(
        target=watch_health, args=(url, theirs), daemon=True
    )
    watching.start()
    async with httpx.AsyncClient(base_url=url, timeout=90, limits=limits) as http:
        recipe = {"dataset": "digits", "epochs": epochs, "checkpoints": {"every_epochs": 5}}
        job_id = (await http.post("/train", json=recipe)).json()["id"]
        heard: list[list[tuple[int, str, float]]] = [[] for _ in range(listeners)]
        listening = [
            listen(http, job_id, mine, hang_up=place % 4 == 0) for place, mine in enumerate(heard)
        ]
        waiting = [wait(http, job_id) for _ in range(polls)]
        results = await asyncio.gather(*listening, *waiting)
    health.send("stop")
    times: list[float] = health.recv()
    watching.join()
    late = [delay for delay in results[listeners:] if delay is not None]
    told = [[(number, kind) for number, kind, _ in mine] for mine in heard]
    right = all(mine == told[0] == sorted(set(mine)) for mine in told)
    delays = [delay for mine in heard for _, _, delay in mine if delay]
    say(f"listeners {listeners} (a quarter hang up every fifth event), long polls {polls}")
    say(f"events {len(told[0])}, the same for all, once and in order: {right}")
    say(f"delay of an event   median {statistics.median(delays):.3f} s, most {max(delays):.3f} s")
    say(f"delay of the polls  median {statistics.median(late):.3f} s, most {max(late):.3f} s")
    say(f"/healthz  p50 {percentile(times, 0.5):.1f} ms, p99 {percentile(times, 0.99):.1f} ms")
    return right


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--listeners", type=int, default=200)
    parser.add_argument("--polls", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=100)
    given = parser.parse_args()
    done = measure(given.url, listeners=given.listeners, polls=given.polls, epochs=given.epochs)
    sys.exit(0 if asyncio.run(done) else 1)
