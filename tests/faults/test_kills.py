"""Processes are killed at random while jobs run; afterwards every word of the service is true.

`DANLU_KILLS` says how many; `make faults` kills 200.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from models_store import checkpoints
from tests.faults.service import ROLES, Service, kill
from tests.faults.truth import Truth, losses

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
    pytest.mark.xdist_group("faults"),
]
KILLS = int(os.environ.get("DANLU_KILLS", "10"))
VICTIMS = (*ROLES, "all")
# One kill for every so many jobs is what a job of this length meets a few times.
RECIPE = {
    "dataset": "digits",
    "epochs": 12,
    "checkpoints": {"keep": "all"},
    "seed": 0,
}


@pytest.mark.timeout(120 + 15 * KILLS)
def test_states_stay_true_whatever_is_killed(tmp_path: Path) -> None:
    chance = random.Random(os.environ.get("DANLU_SEED", "1"))
    service = Service(tmp_path / "home", tmp_path / "datasets")
    service.start()
    try:
        with Truth(service) as truth:
            jobs = [submit(service) for _ in range(3)]
            for _ in range(KILLS):
                time.sleep(chance.uniform(0.2, 1.5))
                strike(service, chance)
                while len(unfinished(service)) < 3:
                    jobs.append(submit(service))
            ended = [finish(service, job_id) for job_id in jobs]
        assert truth.faults == []
        assert {job["state"] for job in ended} == {"succeeded"}, [
            (job["id"], job["state"], job["error"]) for job in ended if job["state"] != "succeeded"
        ]
        assert_whole(service, truth)
    finally:
        service.stop()
    nothing_left(service)


def submit(service: Service) -> str:
    answer = service.http.post("/train", json=RECIPE, timeout=60)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def unfinished(service: Service) -> list[str]:
    found = service.http.get("/jobs", params={"active": True}, timeout=60).json()
    return [job["id"] for job in found["items"]]


def strike(service: Service, chance: random.Random) -> None:
    """Kills one role, or all at once, and waits until the service answers again."""
    role = chance.choice(VICTIMS)
    # Also of jobs that queue: one of them may be claimed before its process can be seen.
    if role in ("child", "all") and any(
        losses(service.home, job_id) >= 2 for job_id in unfinished(service)
    ):
        role = "supervisor"  # a third loss without getting further is a failure, rightly
    pids = service.pids()
    for pid in [pid for found in pids.values() for pid in found] if role == "all" else pids[role]:
        kill(pid, signal.SIGKILL)
    if role in ("parent", "all"):
        service.bury()
        nothing_left(service)
        service.start()
    else:
        service.wait_until_up()


def nothing_left(service: Service) -> None:
    """Five seconds after a parent is gone all are."""
    deadline = time.monotonic() + 5
    while any(service.pids().values()):
        assert time.monotonic() < deadline, service.pids()
        time.sleep(0.05)


def finish(service: Service, job_id: str) -> dict[str, object]:
    deadline = time.monotonic() + 120
    while True:
        job: dict[str, object] = service.http.get(
            f"/jobs/{job_id}", params={"wait": 50}, timeout=60
        ).json()
        if job["state"] in ("succeeded", "failed", "cancelled") or time.monotonic() > deadline:
            return job


def assert_whole(service: Service, truth: Truth) -> None:
    """Every checkpoint that was ever listed is still there and can be read."""
    listed: set[str] = set()
    cursor = None
    while True:
        page = service.http.get(
            "/checkpoints", params={"limit": 200} | ({"cursor": cursor} if cursor else {})
        ).json()
        listed |= {one["id"] for one in page["items"]}
        if (cursor := page["next_cursor"]) is None:
            break
    assert truth.checkpoints <= listed
    for checkpoint_id in listed:
        folder = service.home / "checkpoints" / checkpoint_id
        checkpoints.read_state(folder, checkpoints.read_manifest(folder))
