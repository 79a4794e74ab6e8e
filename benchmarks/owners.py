"""Thirty people queue twenty jobs each: does anybody's second job start before everybody's first?

    python -m benchmarks.owners --url http://127.0.0.1:8000

Submits them one person after the other, to a server with a worker and an empty queue, lets the
first sixty start, looks at the order in which they did, and cancels the rest. Exit code 1 if
somebody had to wait.
"""

import argparse
import sys
import time

import httpx

from benchmarks.listeners import say

RECIPE = {"dataset": "digits", "epochs": 1, "checkpoints": {"keep": 1}}


def submit(http: httpx.Client, owner: str) -> None:
    """One job of this owner."""
    http.post("/train", json=RECIPE, headers={"X-Danlu-User": owner}).raise_for_status()


def all_jobs(http: httpx.Client) -> list[dict[str, str]]:
    """Every job of these people, oldest first."""
    found: list[dict[str, str]] = []
    query: dict[str, str | int] = {"limit": 200, "sort": "created_at"}
    while True:
        page = http.get("/jobs", params=query).raise_for_status().json()
        found += page["items"]
        if page["next_cursor"] is None:
            return [job for job in found if job["owner"].startswith("owner-")]
        query["cursor"] = page["next_cursor"]


def measure(url: str, *, owners: int, each: int, rounds: int) -> bool:
    """Prints what happened; True if nobody's job waited behind another's of a later round."""
    with httpx.Client(base_url=url, timeout=60) as http:
        for number in range(owners):
            for _ in range(each):
                submit(http, f"owner-{number:02}")
        while sum(job["started_at"] is not None for job in all_jobs(http)) < rounds * owners:
            time.sleep(1)
        for job in all_jobs(http):
            if job["state"] in ("queued", "starting", "running"):
                http.post(f"/jobs/{job['id']}/cancel")
        began = sorted(
            (job["started_at"], job["owner"]) for job in all_jobs(http) if job["started_at"]
        )
    order = [owner for _, owner in began][: rounds * owners]
    fair = all(
        len(set(order[start : start + owners])) == owners
        for start in range(0, rounds * owners, owners)
    )
    say(f"{owners} owners with {each} jobs each; the first {len(order)} in order:")
    for start in range(0, len(order), owners):
        say(
            "  " + " ".join(owner.removeprefix("owner-") for owner in order[start : start + owners])
        )
    say(f"nobody's job waited behind another's of a later round: {fair}")
    return fair


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    given = parser.parse_args()
    sys.exit(0 if measure(given.url, owners=30, each=20, rounds=2) else 1)
