"""How soon jobs begin and end, what progress costs, and what memory they take.

`digits` goes over HTTP through `danlu serve`; the 60,000 JPEGs through a worker alone, so that
memory can be seen without the server's.
"""

import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from benchmarks.imports import session_of
from benchmarks.many_jobs import free_port, wait_until
from benchmarks.memory import Curve, of_all, pss_mb
from benchmarks.training import rounds, table
from benchmarks.training.cases import CASES
from benchmarks.training.rounds import Plan
from danlu import environment
from workers import processes

DIGITS_SECONDS = 2.0
FIRST_SECONDS, SECOND_SECONDS = 10.0, 0.5
ARRAY_FACTOR = 1.4
REPORTING_SHARE = 0.01
STREAM_MB = 400.0
ARRAY_MB = 60_000 * 32 * 32 * 3 / 1e6
_HEAD = "| what | measured | promised | |\n|---|---|---|---|\n"


def measure(plan: Plan, count: int, *, only_files: bool = False) -> tuple[bool, str]:
    """All of it, or what is about many files: whether the promises are kept, and the table."""
    rows = [*jpegs(plan)] if only_files else [*reporting(plan, count), *jpegs(plan), *digits(count)]
    text = _HEAD
    for what, measured, promised, kept in rows:
        word = "" if kept is None else "kept" if kept else "**not kept**"
        text += f"| {what} | {measured} | {promised} | {word} |\n"
    return all(kept is not False for *_, kept in rows), text


Row = tuple[str, str, str, bool | None]


def reporting(plan: Plan, count: int) -> Iterator[Row]:
    """The share of an epoch that goes into telling how far it is."""
    for case in CASES:
        shares = []
        for seed in range(count):
            said = rounds.once(plan, case, "danlu auto", seed)["said"]
            shares.append(said["at_ticks"] + said["reporter"])
        told = table.middle(shares, "{:.2%}".format)
        most = f"under {REPORTING_SHARE:.0%}"
        yield f"{case}: progress, of an epoch", told, most, max(shares) < REPORTING_SHARE


def jpegs(plan: Plan) -> Iterator[Row]:
    """60,000 files, decoded and then found decoded, by a worker that is warm."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), plan.data) as (http, home),
        bare_child() as bare,
    ):
        _job(http, {"dataset": "digits", "epochs": 1})  # the forkserver and its pages are warm
        body = CASES["cifar10_net"].recipe(precision="auto", epochs=1, seed=0)
        for name, limit in (("first", FIRST_SECONDS), ("second", SECOND_SECONDS)):
            ready, beyond = _measured(http, home, bare, body)
            what = f"60,000 JPEG files, {name} job: from the request to the end of the first step"
            yield what, f"{ready:.2f} s", f"under {limit} s", ready < limit
            most = ARRAY_FACTOR * ARRAY_MB
            what = f"its memory beyond a bare child's (the array has {ARRAY_MB:.0f} MB)"
            yield what, f"{beyond:.0f} MB", f"at most {most:.0f} MB", beyond <= most
        body["data_loader"]["mode"] = "stream"
        for name in ("first", "second"):
            _, beyond = _measured(http, home, bare, body)
            what = f"60,000 JPEG files, streamed, {name} job: memory beyond a bare child's"
            yield what, f"{beyond:.0f} MB", f"under {STREAM_MB:.0f} MB", beyond < STREAM_MB


def _measured(
    http: httpx.Client, home: Path, bare: int, body: dict[str, Any]
) -> tuple[float, float]:
    """A job's seconds to the end of its first step, and its MB beyond those of the `bare` child."""
    posted = time.time()
    with Curve(lambda: of_all(lambda: _children(home)), every_seconds=0.2) as curve:
        job = _job(http, body)
    return _first_step(home, job) - posted, curve.most() - pss_mb(bare)


def digits(count: int) -> Iterator[Row]:
    """Five epochs on a worker that has had a job before."""
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), None) as (http, home):
        body = {"dataset": "digits", "epochs": 5}
        _job(http, body)
        whole, steps, shares = [], [], []
        for seed in range(count):
            posted = time.time()
            job = _job(http, {**body, "seed": seed})
            whole.append(_at(job, "finished_at") - posted)
            steps.append(_first_step(home, job) - posted)
            shares.append(job["metrics"]["val_accuracy"])
        told = table.middle(whole, "{:.2f} s".format)
        kept = sorted(whole)[len(whole) // 2] < DIGITS_SECONDS
        yield "digits, 5 epochs: request to succeeded", told, f"under {DIGITS_SECONDS} s", kept
        told = table.middle(steps, "{:.2f} s".format)
        yield "digits: request to the end of the first step", told, "", None
        yield "digits: validation accuracy", table.middle(shares, "{:.3f}".format), "", None


@contextmanager
def serving(folder: Path, data: Path | None) -> Iterator[tuple[httpx.Client, Path]]:
    """`danlu serve` on a home of its own; data sets from `data`, if given."""
    home, port = folder / "home", free_port()
    command = [sys.executable, "-m", "danlu", "serve", "--port", str(port), "--home", str(home)]
    variables = environment.variables(settings=False)
    variables |= {"DANLU_DATASETS_DIR": str(data)} if data else {}
    with (folder / "log").open("wb") as log:
        served = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=90) as http:
                wait_until(http, "/readyz")
                yield http, home
        finally:
            served.terminate()
            served.wait(60)


def _job(http: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    """The job when it has ended. Raises `RuntimeError` when it did not succeed."""
    answer = http.post("/train", json=body)
    answer.raise_for_status()
    job: dict[str, Any] = answer.json()
    while job["finished_at"] is None:
        job = http.get(f"/jobs/{job['id']}", params={"wait": 50}).json()
    if job["state"] != "succeeded":
        raise RuntimeError(str(job["error"]))
    return job


def _at(job: dict[str, Any], name: str) -> float:
    return datetime.fromisoformat(job[name]).timestamp()


def _first_step(home: Path, job: dict[str, Any]) -> float:
    """When its first step had ended, by the file for TensorBoard: the row is written later."""
    [file] = (home / "runs" / job["id"]).glob("events.out.tfevents*")
    for event in EventFileLoader(str(file)).Load():
        if any(value.tag == "steps/loss" for value in event.summary.value):
            return float(event.wall_time)
    raise ValueError(f"no step in {file}")


def _children(home: Path) -> Iterator[int]:
    """The processes of the jobs at work."""
    for file in (home / "runs").glob("*/process.json"):
        record = processes.read(file)
        if record is not None:
            yield from session_of(record["pid"])


@contextmanager
def bare_child() -> Iterator[int]:
    """A child like that of a job, which does nothing; its pid."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["workers.child"])
    ours, theirs = context.Pipe()
    process = context.Process(target=_sit, args=(theirs,))
    process.start()
    ours.recv()
    try:
        yield process.pid or 0
    finally:
        ours.send("go")
        process.join()


def _sit(channel: Connection) -> None:
    """Computes once, as every job does, and waits."""
    import torch

    channel.send(float(torch.rand(8).sum()))
    channel.recv()
