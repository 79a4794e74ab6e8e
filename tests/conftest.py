"""What every test shares: quiet threads, a migrated database, and running services."""

import gc
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import hypothesis
import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from danlu import Client, environment
from danlu.errors import DanluError
from danlu.serve import COMMANDS, Halves, listen
from danlu.serve import url as address_of
from database import engine as engines
from workers.processes import is_running

# Several test processes share the cores: threads that spin for each other would stall them all.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Hypothesis would fail what stands still for 0.2 s in an example, or for a second while it draws.
hypothesis.settings.register_profile("danlu", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("danlu")


@pytest.hookimpl(trylast=True)  # when the order is random already
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes begins first: begun last, it would run on alone."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What 350 test modules have imported stays. Each training ends with a collection, and would
    look at a million objects in every test that does one here.
    """
    gc.freeze()


@pytest.fixture
def real_data() -> Path:
    """Real MNIST and CIFAR-10 as `DANLU_TEST_DATA` names their folder; skips without it."""
    folder = os.environ.get("DANLU_TEST_DATA")
    if not folder:
        pytest.skip("set DANLU_TEST_DATA to a folder with MNIST/raw and cifar10-jpeg")
    return Path(folder)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "danlu.sqlite3"
    engines.migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def url(migrated: Path, tmp_path: Path) -> str:
    path = tmp_path / "danlu.sqlite3"
    shutil.copyfile(migrated, path)
    return f"sqlite:///{path}"


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = engines.connect(url)
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(engine: Engine) -> sessionmaker[Session]:
    return engines.session_factory(engine)


@pytest.fixture
def threads() -> Callable[[str], list[threading.Thread]]:
    """The threads of a name that began in this test and are alive.

    Those of a test before may still be ending: nobody waited for them.
    """
    before = set(threading.enumerate())

    def begun(name: str) -> list[threading.Thread]:
        return [one for one in threading.enumerate() if one.name == name and one not in before]

    return begun


@pytest.fixture
def children() -> Callable[[], set[int]]:
    """The processes that this one has started, whichever thread did, and that have not ended.

    Those of a test before may be among them, still ending.
    """

    def children() -> set[int]:
        found: set[int] = set()
        for file in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
            with suppress(OSError):  # that thread has ended meanwhile
                found |= set(map(int, file.read_text().split()))
        return set(filter(is_running, found))

    return children


@dataclass(frozen=True, slots=True)
class Service:
    """A server and a worker as `danlu serve` runs them, and a client of them."""

    client: Client
    home: Path
    datasets: Path


def _wait_ready(client: Client, *, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if client.ready()["worker"] == "ok":
                return
        except DanluError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


@contextmanager
def _serving(home: Path, datasets: Path, **settings: str) -> Iterator[Service]:
    listener = listen("127.0.0.1", 0)
    variables = {**environment.variables(settings=False), "DANLU_DATASETS_DIR": str(datasets)}
    variables |= settings
    with (
        listener,
        (home.parent / f"{home.name}.log").open("wb") as log,
        Halves(COMMANDS, home=home, listener=listener, variables=variables, output=log),
        Client(address_of(listener), api_key=settings.get("DANLU_API_KEY", "")) as client,
    ):
        _wait_ready(client)
        yield Service(client, home, datasets)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One running service for each process of the test run, its data sets in `datasets`."""
    folder = tmp_path_factory.mktemp("service")
    with _serving(folder / "home", folder / "datasets") as running:
        yield running


@pytest.fixture
def serving() -> Callable[..., AbstractContextManager[Service]]:
    """Starts a service of one's own: `with serving(home, datasets) as service`; settings are given
    as their variables.
    """
    return _serving


@contextmanager
def _server_alone(home: Path, **settings: str) -> Iterator[str]:
    listener = listen("127.0.0.1", 0)
    variables = {**environment.variables(settings=False), **settings}
    command = {"server": COMMANDS["server"]}
    path = home.parent / f"{home.name}.log"
    with (
        listener,
        path.open("wb") as log,
        Halves(command, home=home, listener=listener, variables=variables, output=log) as halves,
    ):
        deadline = time.monotonic() + 120
        while not _is_ready(address_of(listener)):
            assert halves.ended() is None, path.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield address_of(listener)


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def server_alone() -> Callable[..., AbstractContextManager[str]]:
    """Starts a server without a worker, whose jobs stay queued: `with server_alone(home) as url`.

    Settings are given as their variables: `server_alone(home, DANLU_API_KEY="…")`.
    """
    return _server_alone
