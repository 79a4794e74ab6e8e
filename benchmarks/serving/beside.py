"""The same while a job trains on the same cores: what each loses by the other.

The job trains `cifar10_net` on so few images that several epochs pass in each measurement; only
those that began and ended in it count.
"""

import math
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import Any

import httpx

from benchmarks.many_jobs import wait_until
from benchmarks.serving.servers import Server
from benchmarks.serving.table import connections_of, names_of
from benchmarks.training.table import word

_DATASET, _IMAGES, _TEST_IMAGES = "beside", 160, 20  # of each class
_ALONE_SECONDS, _PATIENCE_SECONDS = 4.0, 60.0
IDLE = ", no job"  # what is added to danlu's name in records that were taken before the job began
MOST_P99 = 4.0  # as many times that without a job
_ROOM = 0.02  # of the cores: both shares are measured

Records = Sequence[Mapping[str, Any]]


class Job:
    """A job that trains without end on a server of danlu's."""

    def __init__(self, http: httpx.Client, job_id: str) -> None:
        self._http = http
        self._path = f"/jobs/{job_id}"
        self._mark: str | None = None

    def epochs(self) -> list[float]:
        """Seconds of those that have ended since this was last asked for."""
        asked = {"since": self._mark} if self._mark else {}
        told = self._http.get(f"{self._path}/history", params=asked).raise_for_status().json()
        self._mark = told["next"]
        if self._http.get(self._path).json()["state"] != "running":
            sys.exit("the job beside which it is measured has ended")
        return [epoch["seconds"] for epoch in told["epochs"]]

    def alone(self) -> float:
        """Seconds of an epoch when nothing is asked of any server."""
        self.epochs()
        time.sleep(_ALONE_SECONDS)
        return statistics.fmean(self.epochs()[1:])


def data(source: Path, work: Path) -> Path:
    """A folder of data sets with the one of the job, made of the first images of each class."""
    root = work / "datasets"
    folder = root / _DATASET
    if not folder.exists():
        for part, count in (("train", _IMAGES), ("test", _TEST_IMAGES)):
            for of_class in sorted((source / "cifar10-jpeg" / part).iterdir()):
                target = folder / part / of_class.name
                target.mkdir(parents=True)
                for file in sorted(of_class.iterdir())[:count]:
                    shutil.copy(file, target)
    return root


@contextmanager
def job(server: Server) -> Iterator[Job]:
    """A job that trains on `server`, from its second epoch until the end."""
    recipe: dict[str, Any] = {
        "dataset": _DATASET,
        "architecture": "cifar10_net",
        "batch_size": 64,
        "epochs": 100_000,
        "checkpoints": {"every_epochs": 100_000, "keep": 1},
        "optimizer": {"name": "SGD", "lr": 0.001},
        "scheduler": None,
    }
    with httpx.Client(base_url=server.url, timeout=60) as http:
        response = http.post("/train", json=recipe)
        if response.is_error:
            sys.exit(response.text)
        begun = Job(http, response.json()["id"])
        wait_until(http, begun._path, state="running")
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while len(begun.epochs()) == 0 and time.monotonic() < deadline:
            time.sleep(0.2)
        try:
            yield begun
        finally:
            with suppress(httpx.HTTPError):
                http.post(f"{begun._path}/cancel")
                wait_until(http, begun._path, state="cancelled")


def table(records: Records, cores: int) -> tuple[bool, str]:
    """Whether danlu's keep what is promised; and of each contender how much slower the job was,
    beside the share of the cores that serving took, wrk included; of danlu also p99 beside that
    without a job.
    """
    text = (
        "| connections | contender | an epoch, s | alone, s | slower by "
        "| serving's share of the cores | no more than that | p99 : without the job | at most "
        f"{MOST_P99:.0f} | failed |\n|---|---|---|---|---|---|---|---|---|---|\n"
    )
    good = True
    for connections, name in product(connections_of(records), names_of(records)):
        found = [one for one in records if _place(one) == (connections, name)]
        idle = [one for one in records if _place(one) == (connections, name + IDLE)]
        if found and not name.endswith(IDLE):
            cells, kept = _row(found, idle, cores)
            good = good and (kept or not idle)
            text += f"| {connections} | {name} | {' | '.join(cells)} |\n"
    return good, text


def _row(found: Records, idle: Records, cores: int) -> tuple[list[str], bool]:
    """Medians of the rounds."""
    alone = statistics.median(one["alone_seconds"] for one in found)
    # None: no epoch ended, all that time.
    epoch = statistics.median(one["epoch_seconds"] or math.inf for one in found)
    slower = statistics.median(
        1 - one["alone_seconds"] / (one["epoch_seconds"] or math.inf) for one in found
    )
    computed = [one["server_cpu_seconds"] + one["cpu_seconds"] for one in found]
    shares = [spent / one["seconds"] / cores for spent, one in zip(computed, found, strict=True)]
    share, failed = statistics.median(shares), sum(one["bad"] + one["lost"] for one in found)
    cells = [f"{epoch:.2f}", f"{alone:.2f}", f"{slower:.0%}", f"{share:.0%}"]
    if not idle:
        return [*cells, "", "", "", f"{failed}"], True
    longer = statistics.median(
        one["p99_ms"] / before["p99_ms"] for one, before in zip(found, idle, strict=False)
    )
    fair, quick = slower <= share + _ROOM, longer <= MOST_P99
    return [*cells, word(fair), f"{longer:.2f}", word(quick), f"{failed}"], (
        fair and quick and not failed
    )


def _place(record: Mapping[str, Any]) -> tuple[int, str]:
    return record["connections"], record["contender"]
