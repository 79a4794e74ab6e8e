"""Many who listen to one server: does everyone hear every event once, in order, and at once?

    python -m benchmarks.listeners --url http://127.0.0.1:8000

Trains `digits` while 200 clients listen to its events and 200 wait for its end; a quarter of the
listeners hang up again and again and go on with Last-Event-ID. Prints a table; exit code 1 if an
event was lost, doubled or out of order.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from datetime import datetime

import httpx

HEALTH_SECONDS = 0.02


async def listen(
    http: httpx.AsyncClient, job_id: str, heard: list[tuple[int, str, float]], *, hang_up: bool
) -> None:
    """Notes number, type and delay in seconds of each event; `hang_up` leaves every fifth time."""
    last = 0
    while True:
        headers = {"Last-Event-ID": str(last)} if last else {}
        async with http.stream("GET", f"/jobs/{job_id}/events", headers=headers) as response:
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
                    at = datetime.fromisoformat(json.loads(fields["data"])["at"])
                    heard.append((last, fields["event"], time.time() - at.timestamp()))
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


async def watch_health(http: httpx.AsyncClient, times: list[float]) -> None:
    """Milliseconds of /healthz, over one connection."""
    while True:
        began = time.perf_counter()
        await http.get("/healthz")
        times.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(HEALTH_SECONDS)


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def say(line: str) -> None:
    """To standard output."""
    sys.stdout.write(f"{line}\n")


async def measure(url: str, *, listeners: int, polls: int, epochs: int) -> bool:
    """Runs it all and prints the table; True if everyone heard everything once and in order."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with (
        httpx.AsyncClient(base_url=url, timeout=90, limits=limits) as http,
        httpx.AsyncClient(base_url=url, timeout=90) as aside,
    ):
        recipe = {"dataset": "digits", "epochs": epochs, "checkpoints": {"every_epochs": 5}}
        job_id = (await http.post("/train", json=recipe)).json()["id"]
        heard: list[list[tuple[int, str, float]]] = [[] for _ in range(listeners)]
        times: list[float] = []
        began = time.time()
        health = asyncio.create_task(watch_health(aside, times))
        listening = [
            listen(http, job_id, mine, hang_up=place % 4 == 0) for place, mine in enumerate(heard)
        ]
        waiting = [wait(http, job_id) for _ in range(polls)]
        results = await asyncio.gather(*listening, *waiting)
        health.cancel()
    late = [delay for delay in results[listeners:] if delay is not None]
    told = [[(number, kind) for number, kind, _ in mine] for mine in heard]
    right = all(mine == told[0] == sorted(set(mine)) for mine in told)
    # What was written before a listener came is not late.
    delays = [d for mine in heard for _, _, d in mine if time.time() - d > began + 2]
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
