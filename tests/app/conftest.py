"""A server in this process, spoken to over HTTP, and a home with trained checkpoints in it."""

import asyncio
import io
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI
from PIL import Image
from sqlalchemy import Connection, event
from sqlalchemy.orm import Session, sessionmaker

from app.inference import pool
from app.inference.entry import Plan
from app.inference.link import start_method
from app.inference.pool import Pool
from app.main import create_app
from app.predictor import Bounds, Predictor
from database import checkpoints as rows
from database import engine, ids, jobs
from database.tables import State
from models_store import architectures, checkpoints, evaluation, report
from models_store.evaluation import Tally
from models_store.manifest import Manifest, Preprocessing
from models_store.report import Evaluation, Mistake
from settings import Settings


class Server:
    """An app whose lifespan runs, and HTTP requests to it that look synchronous."""

    def __init__(self, app: FastAPI, http: httpx.AsyncClient, portal: BlockingPortal) -> None:
        self.app = app
        self.portal = portal
        self._http = http

    @property
    def settings(self) -> Settings:
        settings: Settings = self.app.state.resources.settings
        return settings

    @property
    def sessions(self) -> sessionmaker[Session]:
        sessions: sessionmaker[Session] = self.app.state.resources.writing
        return sessions

    def fence(self, job_id: str) -> jobs.Fence:
        with self.sessions() as session:
            return jobs.fence_of(jobs.get(session, job_id))

    def finish(self, job_id: str, state: State = State.succeeded, **more: Any) -> None:
        with self.sessions.begin() as session:
            jobs.finish(session, jobs.fence_of(jobs.get(session, job_id)), state=state, **more)

    def request(self, method: str, url: str, **content: Any) -> httpx.Response:
        self._http.cookies.clear()  # each request stands for itself
        return self.portal.call(partial(self._http.request, method, url, **content))

    def soon(self, method: str, url: str, **content: Any) -> Any:
        """A future of the response."""
        return self.portal.start_task_soon(partial(self._http.request, method, url, **content))

    def get(self, url: str, **content: Any) -> httpx.Response:
        return self.request("GET", url, **content)

    def post(self, url: str, **content: Any) -> httpx.Response:
        return self.request("POST", url, **content)

    def delete(self, url: str, **content: Any) -> httpx.Response:
        return self.request("DELETE", url, **content)

    def hang_up_on(
        self, method: str, path: str, *, query: bytes = b"", body: bytes = b"", sent: list[Any]
    ) -> None:
        """A request whose client goes away 0.1 s after it; what it is `sent` all the same."""
        came = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if came:
                return came.pop()
            await asyncio.sleep(0.1)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        async def leave() -> None:
            # Less than what a prediction or a long poll takes that nobody gives up.
            await asyncio.wait_for(self.app(scope, receive, send), 20)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "",
            "query_string": query, "headers": [(b"host", b"127.0.0.1")],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        }  # fmt: skip
        self.portal.call(leave)


# To make one takes as long as all else that a server does before it is ready.
_documents: dict[tuple[bool, str], dict[str, Any]] = {}


@contextmanager
def serving(settings: Settings) -> Iterator[Server]:
    """A server with these settings, ready; stopped at the end. Its OpenAPI document is that of an
    earlier one of which the same must be said.
    """
    app = create_app(settings)
    alike = (settings.api_key is not None, settings.root_path)
    if alike in _documents:
        app.openapi = partial(_documents.get, alike)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(app.router.lifespan_context(app)),
        portal.wrap_async_context_manager(
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=30)
        ) as http,
    ):
        portal.call(app.state.resources.warmup.wait)
        if app.openapi_schema is not None:
            _documents[alike] = app.openapi_schema
        yield Server(app, http, portal)


@dataclass(frozen=True)
class Trained:
    """A job that succeeded, and the ids of its checkpoints; the last one is the best."""

    job_id: str
    checkpoint_ids: list[str]

    @property
    def best(self) -> str:
        return self.checkpoint_ids[-1]


def _train(
    settings: Settings,
    *,
    dataset: str = "digits",
    epochs: int = 2,
    end: State | None = State.succeeded,
    seed: int = 0,
    **preprocessing: Any,
) -> Trained:
    """What a worker leaves behind, with a network of random weights; `end` None: still running."""
    settings.home.mkdir(parents=True, exist_ok=True)
    engine.migrate(settings.database)
    database = engine.connect(settings.database)
    sessions = engine.session_factory(database)
    recipe = {"dataset": dataset, "architecture": "mnist_net", "epochs": epochs, "image_size": 28}
    with sessions.begin() as session:
        job = jobs.enqueue(
            session, kind="train", dataset=dataset, recipe=recipe, owner="lin", name="Try №1"
        )
        jobs.claim(session, worker_id="w", host="h", device="cpu")
    with sessions.begin() as session:
        fence = jobs.fence_of(jobs.get(session, job.id))
        jobs.start(session, fence, pid=1, device="cpu")
    saved = []
    for epoch in range(1, epochs + 1):
        manifest = _manifest(job.id, epoch, recipe, preprocessing)
        folder = checkpoints.save(settings.checkpoints, _weights(seed + epoch), manifest)
        with sessions.begin() as session:
            rows.add(
                session,
                fence,
                checkpoint_id=manifest.id,
                epoch=epoch,
                val_accuracy=0.9 + epoch / 100,
                val_loss=1 / epoch,
                disk_bytes=checkpoints.disk_bytes(folder),
            )
        saved.append(manifest.id)
    if end is State.succeeded:
        report.write(settings.checkpoints / saved[-1], _report(saved[-1]))
    if end is not None:
        with sessions.begin() as session:
            if end is State.cancelled:
                jobs.cancel(session, job.id)
            jobs.finish(session, fence, state=end, stop_reason="completed")
    database.dispose()
    return Trained(job.id, saved)


def _report(checkpoint_id: str, **given: Any) -> Evaluation:
    """Of the first ten digits of the test part, of which two were taken for others; predictions
    are left as they are.
    """
    labels = np.array([0, 5, 0, 5, 0, 5, 0, 5, 8, 3])
    predicted = np.array([0, 5, 0, 5, 0, 5, 0, 5, 3, 8])
    tally = Tally(10, 1.0)
    tally.add(np.eye(10, dtype=np.float32)[predicted], labels)
    classes, averages = evaluation.per_class(tally.confusion(), [str(n) for n in range(10)])
    wrong = [(8, "8", "3"), (9, "3", "8")]
    found = {
        "checkpoint_id": checkpoint_id,
        "dataset": {"name": "digits", "version": None},
        "judged_on": "test",
        "count": 10,
        "accuracy": tally.accuracy(),
        "top5_accuracy": tally.top5_accuracy(),
        "averages": averages,
        "classes": classes,
        "confusion": tally.confusion().tolist(),
        "calibration": tally.calibration(fitted_count=40),
        "mistakes": [
            Mistake(part="test", index=index, label=label, predicted=taken, probability=0.23)
            for index, label, taken in wrong
        ],
    }
    return Evaluation.model_validate(found | given)


def _png(seed: int = 0, *, size: tuple[int, int] = (28, 28), border: int = 0) -> bytes:
    """A noisy grey image with a border of one brightness."""
    pixels = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    pixels[[0, -1], :] = border
    pixels[:, [0, -1]] = border
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def train() -> Callable[..., Trained]:
    return _train


@pytest.fixture(scope="session")
def judged() -> Callable[..., Evaluation]:
    """A report of a checkpoint, as the best one of `train` has it."""
    return _report


@pytest.fixture(scope="session")
def png() -> Callable[..., bytes]:
    return _png


@pytest.fixture
def problem() -> Callable[..., dict[str, Any]]:
    return _problem


@pytest.fixture(scope="session")
def serve() -> Callable[[Settings], AbstractContextManager[Server]]:
    return serving


@asynccontextmanager
async def _predicting(checkpoints: Path, **given: Any) -> AsyncIterator[Predictor]:
    """A predictor with processes of its own; the bounds are wide where none are given."""
    plan = Plan(
        checkpoints,
        device="cpu",
        precision=given.get("precision", "fp32"),
        threads=1,
        cores=1,
        log_level="error",
    )
    of_pool = {"processes": 1, "memory_bytes": 1 << 40, "idle_seconds": 3600.0, "seconds": 30.0}
    of_pool |= {name: given[name] for name in of_pool.keys() & given.keys()}
    processes = of_pool["processes"]
    bounds = Bounds(
        requests=given.get("requests", 1000),
        request_bytes=given.get("request_bytes", 1 << 40),
        seconds=of_pool["seconds"],
        processes=processes,
        processes_beside=processes,
    )
    held = Pool(
        plan,
        pool.Bounds(**of_pool),
        method=start_method("auto"),
        device=given.get("device", lambda: "cpu"),
    )
    try:
        yield Predictor(held, bounds)
    finally:
        await held.close()


@pytest.fixture(scope="session")
def predicting() -> Callable[..., Any]:
    """A predictor of the checkpoints in a folder: `async with predicting(folder) as predictor`."""
    return _predicting


@pytest.fixture(scope="session")
def suspend() -> Callable[[int], None]:
    """Stops a process, and returns once it stands still; SIGCONT lets it go on."""

    def suspend(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        deadline = time.monotonic() + 20
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < deadline
            time.sleep(0.001)

    return suspend


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def server(settings: Settings, migrated: Path) -> Iterator[Server]:
    """A server of its own, on an empty home, unless the test has begun one."""
    if not settings.home.exists():
        settings.home.mkdir()
        shutil.copyfile(migrated, settings.home / "danlu.sqlite3")
    with serving(settings) as running:
        yield running


@pytest.fixture
def fill_up() -> Callable[[Server], None]:
    """Leaves no space in the database of a server, as on a full disk."""

    def fill_up(server: Server) -> None:
        database = server.app.state.resources.database
        with database.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE filler (bytes)")

        def refuse(connection: Connection) -> None:
            if not connection.get_execution_options().get("read_only"):
                connection.exec_driver_sql("PRAGMA max_page_count = 1")  # as many as there are
                connection.exec_driver_sql("INSERT INTO filler VALUES (zeroblob(1000000))")

        event.listen(database, "begin", refuse)

    return fill_up


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared") / "home"


@pytest.fixture(scope="session")
def trained(home: Path) -> Trained:
    """Of the shared home; not to be changed."""
    return _train(Settings(home=home))


@pytest.fixture(scope="session")
def shared(home: Path, trained: Trained) -> Iterator[Server]:
    """One server for all tests that only read, or are refused; its newest model is `trained`."""
    with serving(Settings(home=home)) as running:
        yield running


KEY = "the+key/of~these=tests"


@pytest.fixture(scope="session")
def key() -> str:
    return KEY


@pytest.fixture(scope="session")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks for `key`, has names of its own and lets the pages of a shop in."""
    settings = Settings(
        home=tmp_path_factory.mktemp("keyed") / "home",
        api_key=KEY,
        allowed_hosts="Danlu.Lab, .example.org",
        cors_origins="https://shop.example",
    )
    with serving(settings) as running:
        yield running


def _problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document, after checking what all of them have in common."""
    document: dict[str, Any] = response.json()
    assert response.status_code == status, document
    assert response.headers["content-type"] == "application/problem+json"
    assert document["code"] == code, document
    assert document["status"] == status
    assert document["type"] == f"/docs/errors/{code}"
    assert document["title"]
    assert document["detail"]
    assert set(document) >= {"hint", "errors"}
    assert document["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    return document


def _weights(seed: int) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        plan = architectures.plan("mnist_net", channels=1, size=(28, 28), classes=10)
        return architectures.build(plan).state_dict()


@pytest.fixture
def comes_in_pages(shared, problem):
    """Looks at a list that is no table: its pages are the whole, and wrong ones are refused."""

    def check(path: str) -> None:
        whole = shared.get(path).json()
        first = shared.get(path, params={"limit": 2}).json()
        rest = shared.get(path, params={"limit": 200, "cursor": first["next_cursor"]}).json()
        assert len(first["items"]) == 2
        assert first["items"] + rest["items"] == whole["items"]
        assert rest["next_cursor"] is whole["next_cursor"] is None
        problem(shared.get(path, params={"limit": 201}), 422, "invalid_request")
        refused = shared.get(path, params={"cursor": "nonsense"})
        document = problem(refused, 422, "invalid_request")
        assert document["errors"][0]["loc"] == ["query", "cursor"]

    return check


def _manifest(
    job_id: str, epoch: int, recipe: dict[str, Any], preprocessing: dict[str, Any]
) -> Manifest:
    shape = {"height": 28, "width": 28, "channels": 1, "trained_height": 28, "trained_width": 28}
    return Manifest(
        id=ids.new("ckpt"),
        job_id=job_id,
        architecture="mnist_net",
        classes=[str(digit) for digit in range(10)],
        preprocessing=Preprocessing(**{**shape, **preprocessing}),
        recipe=recipe,
        dataset={"name": recipe["dataset"], "version": None},
        epoch=epoch,
        metrics={"val_accuracy": 0.9},
        made_with={"torch": torch.__version__},
        created_at=datetime.now(UTC),
    )
