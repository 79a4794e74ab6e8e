"""Small recipes, a job at work, and real workers on homes of their own."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from data_store import catalog
from database import engine as engines
from database import jobs
from database import processes as process_rows
from database.jobs import Fence
from database.leases import LEASE_SECONDS
from models_store import recipe as recipes
from models_store.recipe import Recipe, SubmittedRecipe
from settings import Settings
from tests.workers.stage import Context, Stage
from workers import task
from workers.supervisor import Supervisor

Sessions = sessionmaker[Session]


@pytest.fixture
def undone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `devices.repeat_to_the_bit` does to a process, which is the tests' here, is undone."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "unset")  # so that it is unset in the end
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False
    torch.backends.cudnn.benchmark = False


@dataclass(frozen=True)
class Facts:
    """What `resolve` asks of a data set."""

    name: str = "shapes"
    classes: Sequence[str] = tuple("0123456789")
    counts: Mapping[str, int] = field(default_factory=lambda: {"train": 64, "test": 16})
    height: int = 12
    width: int = 12
    channels: int = 1
    defaults: Mapping[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="session")
def recipe() -> Callable[..., Recipe]:
    """A whole recipe from the words that a test cares about; seed 0, fp32, on the CPU."""

    def recipe(**given: Any) -> Recipe:
        asked = {"dataset": "shapes", "seed": 0, "precision": "fp32", "device": "cpu", **given}
        return recipes.resolve(SubmittedRecipe.model_validate(asked), Facts())

    return recipe


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    """Waits for something to become true and gives it; looks every 50 ms."""

    def until(true: Callable[[], Any], *, seconds: float = 30.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := true()):
            assert time.monotonic() < deadline, f"not within {seconds} s"
            time.sleep(0.05)
        return found

    return until


@pytest.fixture
def claim(sessions: Sessions) -> Callable[[Recipe], Fence]:
    """Enqueues a job and claims it: its state is `starting`."""

    def claim(recipe: Recipe) -> Fence:
        with sessions.begin() as session:
            jobs.enqueue(
                session,
                kind="train",
                dataset=recipe.dataset,
                recipe=recipe.model_dump(mode="json"),
                owner="lin",
            )
        with sessions.begin() as session:
            job = jobs.claim(session, worker_id="w1", host="here", device="cpu")
        assert job is not None
        return jobs.fence_of(job)

    return claim


@pytest.fixture
def running(
    claim: Callable[[Recipe], Fence], recipe: Callable[..., Recipe], sessions: Sessions
) -> Fence:
    """The fence of a job that is `running`."""
    fence = claim(recipe())
    with sessions.begin() as session:
        assert jobs.start(session, fence, pid=7, device="cpu")
    return fence


@pytest.fixture
def job(sessions: Sessions) -> Callable[[Fence], jobs.Job]:
    """The row of a fence's job as it is now."""

    def job(fence: Fence) -> jobs.Job:
        with sessions() as session:
            return jobs.get(session, fence.job_id)

    return job


def half(bright: str, *, side: int = 12, mode: str = "L") -> bytes:
    """A PNG whose left or right half is bright, with some noise: a class that is easily learnt."""
    pixels = np.random.default_rng().integers(0, 40, (side, side), dtype=np.uint8)
    pixels[:, slice(None, side // 2) if bright == "left" else slice(side // 2, None)] += 180
    file = BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def write_images(tmp_path: Path) -> Callable[..., Path]:
    """A data set `shapes` of two classes, `count` images in each, in the parts asked for."""

    def write_images(*parts: str, count: int = 16, mode: str = "L") -> Path:
        root = tmp_path / "datasets"
        for part in parts:
            for name in ("left", "right"):
                folder = root / "shapes" / part / name
                folder.mkdir(parents=True)
                for number in range(count):
                    (folder / f"{number:02}.png").write_bytes(half(name, mode=mode))
        return root

    return write_images


class Worker:
    """`python -m workers` on a home of its own, and what a test asks of its database."""

    def __init__(self, home: Path, **variables: str) -> None:
        self.home = home
        self.url = f"sqlite:///{home / 'danlu.sqlite3'}"
        self._log = home / "worker.log"
        self._engine = engines.connect(self.url)
        self.sessions = engines.session_factory(self._engine)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("DANLU_")}
        self._environment = inherited | {"DANLU_HOME": str(home), **variables}
        self.process: subprocess.Popen[bytes] | None = None

    def start(
        self, *, pass_fds: tuple[int, ...] = (), program: str | None = None, **variables: str
    ) -> None:
        what = ["-m", "workers"] if program is None else ["-c", program]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", *what],
                env=self._environment | variables,
                stderr=log,
                pass_fds=pass_fds,
                start_new_session=True,
            )

    def log(self) -> str:
        return self._log.read_text()

    def submit(self, **given: Any) -> str:
        asked = {"dataset": "digits", "seed": 0, **given}
        facts = catalog.facts(asked["dataset"], self.home / "datasets")
        recipe = recipes.resolve(SubmittedRecipe.model_validate(asked), facts)
        with self.sessions.begin() as session:
            return jobs.enqueue(
                session,
                kind="train",
                dataset=recipe.dataset,
                recipe=recipe.model_dump(mode="json"),
                owner="lin",
            ).id

    def job(self, job_id: str) -> jobs.Job:
        with self.sessions() as session:
            return jobs.get(session, job_id)

    def cancel(self, job_id: str) -> None:
        with self.sessions.begin() as session:
            jobs.cancel(session, job_id)

    def pid(self, role: str) -> int | None:
        with self.sessions() as session:
            return next((p.pid for p in process_rows.alive(session) if p.role == role), None)

    def pids(self) -> list[int]:
        """All processes that this worker has started, and itself; none that has ended."""
        mark = f"DANLU_HOME={self.home}\0".encode()
        return [int(file.parent.name) for file in _environments() if mark in _read(file)]

    def stop(self) -> None:
        if self.process:
            self.process.terminate()

    def clean(self) -> None:
        if self.process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
            self.process.kill()
            self.process.wait()
        deadline = time.monotonic() + 10
        while (left := self.pids()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._engine.dispose()


def _environments() -> Iterator[Path]:
    return Path("/proc").glob("[0-9]*/environ")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


@pytest.fixture(scope="module")
def new_worker(
    migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Worker]]:
    """Makes workers that are not started yet, and ends whatever is left of them."""
    made: list[Worker] = []

    def new_worker(**variables: str) -> Worker:
        home = tmp_path_factory.mktemp("home")
        shutil.copyfile(migrated, home / "danlu.sqlite3")
        made.append(Worker(home, **variables))
        return made[-1]

    yield new_worker
    for one in made:
        one.stop()
    for one in made:
        one.clean()


@pytest.fixture
def stage(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage(sessions)

    context = Context(stage)
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: context)
    monkeypatch.setattr(task, "work", stage.work)
    monkeypatch.setattr(task, "stand_by", stage.stand_by)
    monkeypatch.setattr(task, "probe", stage.probe)
    return stage


@pytest.fixture
def run(
    stage: Stage, engine: Engine, url: str, tmp_path: Path, until: Callable[..., Any]
) -> Iterator[Callable[..., list[BaseException]]]:
    """Starts the supervisor in a thread; gives the list that its error goes to."""
    running: list[tuple[Supervisor, threading.Thread]] = []

    def run(*, lease_seconds: float = LEASE_SECONDS, **given: Any) -> list[BaseException]:
        errors: list[BaseException] = []
        settings = Settings(home=tmp_path, database_url=url, **given)
        one = Supervisor(settings, engine, lease_seconds=lease_seconds)

        def supervise() -> None:
            try:
                one.run()
            except BaseException as error:
                errors.append(error)

        running.append((one, threading.Thread(target=supervise)))
        running[-1][1].start()
        until(lambda: stage.started and not stage.started[0].is_alive())
        return errors

    yield run
    for one, thread in running:
        one.stop()
        thread.join(20)
        assert not thread.is_alive()
