"""Jobs whose data set has to come first, from servers of every kind."""

import gzip
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
from sqlalchemy.orm import Session, sessionmaker

from data_store import built_in, catalog, downloads, unfinished
from data_store.built_in import File
from data_store.patience import PATIENCE
from database import jobs
from database.jobs import Fence
from models_store import recipe as recipes
from models_store.recipe import SubmittedRecipe
from tests.data_store.mirrors import NOBODY, SOON, Mirror, served
from workers import run_job
from workers.reporter import Stop
from workers.run_job import Outcome
from workers.task import Task

FOLDER = "MNIST/raw"


class Held:
    """Stands in for the supervisor's side of the device."""

    def give_up(self) -> None:
        pass

    def take(self) -> tuple[str, ...]:
        return ("cpu",)


class Downloading:
    """A job on a small `mnist` that is not there yet."""

    def __init__(self, home: Path, url: str, sessions: sessionmaker[Session]) -> None:
        self.root = home / "datasets"
        self._home, self._url, self._sessions = home, url, sessions
        self.stop = Stop()
        self._fence: Fence

    def enqueue(self) -> None:
        asked = {"dataset": "mnist", "epochs": 1, "batch_size": 4, "seed": 0, "precision": "fp32"}
        facts = catalog.facts("mnist", self.root)
        recipe = recipes.resolve(SubmittedRecipe.model_validate(asked), facts)
        with self._sessions.begin() as session:
            jobs.enqueue(
                session,
                kind="train",
                dataset="mnist",
                recipe=recipe.model_dump(mode="json"),
                owner="lin",
            )

    def run(self, *mirrors: Mirror) -> Outcome:
        with self._sessions.begin() as session:
            job = jobs.claim(session, worker_id="w1", host="here", device="cpu")
            assert job is not None
            self._fence = jobs.fence_of(job)
        self.stop = Stop()
        folders = ("datasets", "cache", "checkpoints", "weights", "runs", "uploads")
        task = Task(
            fence=self._fence,
            kind="train",
            device="cpu",
            database=self._url,
            **{name: self._home / name for name in folders},
            mirrors=tuple(mirror.url for mirror in mirrors),
        )
        return run_job.run(task, Held(), self.stop)

    def release(self) -> None:
        with self._sessions.begin() as session:
            jobs.release(session, self._fence)

    @property
    def job(self) -> jobs.Job:
        with self._sessions() as session:
            return jobs.get(session, self._fence.job_id)


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A small MNIST as a mirror has it, in place of the known one, which nobody serves."""
    random, packed = np.random.default_rng(0), {}
    for prefix, count in (("train", 40), ("t10k", 10)):
        head = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (count, 28, 28))
        images = head + random.integers(0, 256, (count, 28, 28), dtype=np.uint8).tobytes()
        labels = (
            bytes([0, 0, 8, 1]) + count.to_bytes(4, "big") + bytes(i % 10 for i in range(count))
        )
        packed[f"{prefix}-images-idx3-ubyte"] = gzip.compress(images)
        packed[f"{prefix}-labels-idx1-ubyte"] = gzip.compress(labels)
    rows = tuple(
        File(f"{name}.gz", len(data), hashlib.md5(data).hexdigest(), (f"{FOLDER}/{name}",))
        for name, data in packed.items()
    )
    small = replace(
        built_in.SETS["mnist"], files=rows, mirrors=(NOBODY,), counts={"train": 40, "test": 10}
    )
    # SETS is typed as read-only, which it is to all but this test.
    monkeypatch.setitem(built_in.SETS, "mnist", small)  # type: ignore[arg-type]
    return {f"/datasets/{FOLDER}/{name}.gz": data for name, data in packed.items()}


@pytest.fixture
def serve(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Mirror]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ExitStack() as stack:
        yield lambda **behaviour: stack.enter_context(served(Mirror(dict(files), **behaviour)))


@pytest.fixture
def downloading(
    tmp_path: Path, url: str, sessions: sessionmaker[Session], files: dict[str, bytes]
) -> Downloading:
    made = Downloading(tmp_path, url, sessions)
    made.enqueue()
    return made


def part(downloading: Downloading) -> int:
    """Bytes of the first file that have come."""
    return unfinished.size(downloading.root / FOLDER / "train-images-idx3-ubyte.gz")


def test_the_fourth_mirror_finishes_what_the_others_began(
    downloading: Downloading,
    serve: Callable[..., Mirror],
    files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(downloads, "fetch", partial(downloads.fetch, patience=SOON))
    stalls, cuts = serve(then="stall", after=9_000), serve(then="cut", after=9_000)
    lies, good = serve(lies=True), serve()

    outcome = downloading.run(stalls, cuts, lies, good)

    assert outcome.state == "succeeded", outcome
    first, *others = files
    assert stalls.asked == [(first, 0)]
    assert cuts.asked == [(first, 9_000)]
    assert lies.asked == [(first, 18_000)]
    assert good.asked == [(first, 18_000), *((other, 0) for other in others)]
    assert not list(downloading.root.rglob("*.part"))
    assert (downloading.job.metrics or {})["test_accuracy"] is not None


@pytest.mark.parametrize("reason", ["cancel", "release"])
def test_a_silent_server_holds_no_job_that_is_to_stop(
    reason: Any, downloading: Downloading, serve: Callable[..., Mirror], until: Callable[..., Any]
) -> None:
    silent, good = serve(then="stall", after=5_000), serve()
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(downloading.run(silent)))
    thread.start()
    until(lambda: part(downloading) == 5_000)
    until(lambda: (downloading.job.progress or {}).get("bytes") == 5_000)

    began = monotonic()
    downloading.stop.set(reason)
    thread.join()

    assert monotonic() - began < PATIENCE.silent_seconds / 2  # on quiet cores it takes 0.3
    assert [one.state for one in outcomes] == ["cancelled" if reason == "cancel" else "released"]
    assert part(downloading) == 5_000
    if reason == "release":  # what has come serves the next attempt
        downloading.release()
        assert downloading.run(good).state == "succeeded"
        assert good.asked[0][1] == 5_000
