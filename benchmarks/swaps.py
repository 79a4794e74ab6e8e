"""An alias that is pointed elsewhere under load: does any request fail, or get another's answer?

    python -m benchmarks.swaps --url http://127.0.0.1:8000

Trains `digits` for two epochs, and points an alias at the one checkpoint and the other in turn, one
swap after another, while 32 connections predict with it. Every answer is held against what the
checkpoint that it names says by itself. Prints a table; exit code 1 if a request failed, or was
answered by another checkpoint than these two, or not as that one answers.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

ALIAS = "benchmark-swaps"
# The same image gives the same probability to this, whatever the batch it is in.
CLOSE = 1e-3


@dataclass
class Seen:
    """What came back."""

    right: dict[str, tuple[str, float]]  # label and probability by checkpoint
    wrong: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)  # by checkpoint
    milliseconds: list[float] = field(default_factory=list)

    def take(self, response: httpx.Response) -> None:
        """Counts one answer."""
        if response.status_code != 200:
            self.wrong[f"{response.status_code} {response.json().get('code')}"] += 1
            return
        said = response.json()
        expected = self.right.get(said["checkpoint_id"])
        self.answers[said["checkpoint_id"]] += 1
        if expected is None:
            self.wrong["another checkpoint"] += 1
        elif said["predictions"][0]["label"] != expected[0]:
            self.wrong["another label"] += 1
        elif abs(said["predictions"][0]["probability"] - expected[1]) > CLOSE:
            self.wrong["another probability"] += 1


async def prepare(http: httpx.AsyncClient) -> tuple[str, list[str], bytes]:
    """A job, the ids of its two checkpoints, and an image."""
    recipe = {"dataset": "digits", "epochs": 2, "seed": 0, "name": ALIAS}
    job = told(await http.post("/train", json=recipe))
    while job["state"] not in ("succeeded", "failed", "cancelled"):
        job = told(await http.get(f"/jobs/{job['id']}", params={"wait": 50}))
    image = await http.get("/datasets/digits/images/test/0")
    return job["id"], [one["id"] for one in job["checkpoints"]], image.content


def told(response: httpx.Response) -> Any:
    """The answer, which must be a good one."""
    if response.is_error:
        sys.exit(f"{response.request.method} {response.request.url}: {response.text}")
    return response.json()


async def ask(http: httpx.AsyncClient, image: bytes, seen: Seen, over: asyncio.Event) -> None:
    """One connection: one request after another."""
    while not over.is_set():
        began = time.perf_counter()
        try:
            response = await http.post("/predict", params={"model": ALIAS}, content=image)
        except httpx.HTTPError as error:
            seen.wrong[type(error).__name__] += 1
            continue
        seen.milliseconds.append((time.perf_counter() - began) * 1000)
        seen.take(response)


async def swap(http: httpx.AsyncClient, checkpoint_ids: list[str], count: int) -> list[float]:
    """Milliseconds of each swap."""
    times = []
    for turn in range(count):
        began = time.perf_counter()
        target = {"checkpoint": checkpoint_ids[(turn + 1) % len(checkpoint_ids)]}
        told(await http.put(f"/models/{ALIAS}", json=target))
        times.append((time.perf_counter() - began) * 1000)
    return times


async def measure(url: str, *, swaps: int, connections: int) -> bool:
    """Runs it all and prints the table; True if nothing was wrong."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=90, limits=limits) as http:
        job_id, checkpoint_ids, image = await prepare(http)
        right = {}
        for one in checkpoint_ids:
            answer = told(await http.post("/predict", params={"model": one}, content=image))
            right[one] = (
                answer["predictions"][0]["label"],
                answer["predictions"][0]["probability"],
            )
        seen, over = Seen(right), asyncio.Event()
        told(await http.put(f"/models/{ALIAS}", json={"checkpoint": checkpoint_ids[0]}))
        asking = [asyncio.create_task(ask(http, image, seen, over)) for _ in range(connections)]
        began = time.perf_counter()
        times = await swap(http, checkpoint_ids, swaps)
        seconds = time.perf_counter() - began
        over.set()
        await asyncio.gather(*asking)
        await http.delete(f"/models/{ALIAS}")
        await http.delete(f"/jobs/{job_id}")
    return tell(seen, times, seconds, connections=connections)


def tell(seen: Seen, times: list[float], seconds: float, *, connections: int) -> bool:
    """Prints the table; True if nothing was wrong."""
    asked, wrong = len(seen.milliseconds), dict(seen.wrong)
    say(f"swaps {len(times)} in {seconds:.1f} s, connections {connections}")
    say(f"a swap     p50 {percentile(times, 0.5):.1f} ms, p99 {percentile(times, 0.99):.1f} ms")
    say(f"requests {asked}, {asked / seconds:.0f} a second, failed or wrong: {wrong or 'none'}")
    say(
        f"a request  p50 {percentile(seen.milliseconds, 0.5):.1f} ms, "
        f"p99 {percentile(seen.milliseconds, 0.99):.1f} ms"
    )
    say(f"answers by checkpoint: {dict(seen.answers)}")
    return not wrong and len(seen.answers) == len(seen.right)


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def say(line: str) -> None:
    """To standard output."""
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=32)
    given = parser.parse_args()
    done = measure(given.url, swaps=given.swaps, connections=given.connections)
    sys.exit(0 if asyncio.run(done) else 1)
