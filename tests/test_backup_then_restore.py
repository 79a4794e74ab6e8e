"""A backup of a home in the middle of a job, and another home where that job goes on."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("service")]

EPOCHS = 2000


def danlu(*words: str) -> dict[str, Any]:
    """What a command answers as JSON; all is well."""
    done = subprocess.run(
        [sys.executable, "-m", "danlu", *words, "--json"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout, done.stderr)
    return dict(json.loads(done.stdout))


def until(service: Any, job_id: str, good: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while True:
        job = dict(service.client.job(job_id))
        assert job["state"] in {"queued", "starting", "running"}, job["error"]
        if good(job):
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.1)


def past(epoch: int) -> Callable[[dict[str, Any]], bool]:
    return lambda job: (job["progress"]["epoch"] or 0) > epoch


def test_a_job_goes_on_in_a_home_that_was_restored(
    service: Any, serving: Callable[..., Any], tmp_path: Path
) -> None:
    job_id = service.client.train({"dataset": "digits", "epochs": EPOCHS})["id"]
    until(service, job_id, past(2))

    made = danlu("backup", str(tmp_path / "backup"), "--home", str(service.home))
    service.client.cancel(job_id)
    restored = danlu("restore", str(tmp_path / "backup"), "--home", str(tmp_path / "new"))

    assert made["lost"] == []
    assert restored["queued"] == [job_id]
    with serving(tmp_path / "new", service.datasets) as new:
        before = [epoch["epoch"] for epoch in new.client.history(job_id)["epochs"]]
        assert len(before) >= 2
        until(new, job_id, past(before[-1]))
        new.client.cancel(job_id, finish=True)
        job = new.client.wait(job_id, timeout_seconds=120)
        after = [epoch["epoch"] for epoch in new.client.history(job_id)["epochs"]]
        log = new.client.logs(job_id)
        found = danlu("doctor", "--quick", "--home", str(tmp_path / "new"))

    assert (job["state"], job["stop_reason"], job["attempt"]) == ("succeeded", "finished_early", 1)
    assert after[: len(before)] == before
    assert after == list(range(1, len(after) + 1)), "no epoch is missing and none is there twice"
    assert "goes on after epoch" in log
    assert found["worst"] in {"ok", "warning"}
