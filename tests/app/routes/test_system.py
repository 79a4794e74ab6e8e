"""Whether the server lives, whether it is ready, and what it says of itself."""

import time
from pathlib import Path

import httpx
import pytest

from app.main import create_app
from database import processes


def _wait_ready(server):
    deadline = time.monotonic() + 20
    while server.get("/readyz").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_is_alive(shared):
    assert shared.get("/healthz").json() == {"status": "ok"}


def test_it_is_ready(server):
    _wait_ready(server)
    assert server.get("/readyz").json() == {
        "status": "ready",
        "database": "ok",
        "worker": "none",
        "models": "ok",
    }
    with server.sessions.begin() as session:
        processes.seen(session, role="supervisor", pid=7, host="atlas")
    assert server.get("/readyz").json()["worker"] == "ok"


def test_it_is_not_ready_before_torch_is_loaded(settings, serve, problem):
    with serve(settings) as running:
        cold = create_app(settings)  # on the same home; its lifespan never runs

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(cold)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                return await http.get("/readyz")

        response = running.portal.call(ask)
        cold.state.resources.database.dispose()
        document = problem(response, 503, "not_ready")
        assert document["models"] == "loading"
        assert document["database"] == "ok"
        assert response.headers["retry-after"] == "1"


def test_it_is_not_ready_without_a_database(server, problem):
    server.settings.home.rename(server.settings.home.with_name("gone"))
    server.app.state.resources.database.dispose()
    try:
        document = problem(server.get("/readyz"), 503, "not_ready")
        assert document["database"] == "failed"
        assert server.get("/healthz").status_code == 200
        problem(server.get("/jobs"), 503, "database_unavailable")
    finally:
        server.settings.home.with_name("gone").rename(server.settings.home)


def test_memory_that_files_are_cached_in_is_free(shared):
    try:
        before = meminfo()
    except OSError:
        pytest.skip("the system does not say")
    free = shared.get("/system").json()["memory"]["free"]
    after = meminfo()  # others take and give back meanwhile
    least, most = sorted(told["MemAvailable"] for told in (before, after))
    assert least - 0.1 * before["MemTotal"] < free < most + 0.1 * before["MemTotal"]


def meminfo() -> dict[str, int]:
    """In bytes."""
    lines = [line.split(":") for line in Path("/proc/meminfo").read_text().splitlines()]
    return {name: 1024 * int(rest.split()[0]) for name, rest in lines}


def test_what_it_runs_on(server):
    with server.sessions.begin() as session:
        processes.seen(session, role="child", pid=9, host="atlas", job_id="job_1", device="cuda:1")
    server.post("/train", json={"dataset": "digits"})
    found = server.get("/system").json()
    assert found["home"] == str(server.settings.home)
    assert {"python", "danlu", "torch"} <= set(found["versions"])
    assert found["devices"] == ["cpu", "cuda:1"]
    assert found["disk"]["total"] > found["disk"]["free"] > 0
    assert found["memory"]["total"] > 0
    assert found["queue"] == {"queued": 1}
    assert found["warm_models"] == []
    by_role = {process["role"]: process for process in found["processes"]}
    assert set(by_role) - {"predictor"} == {"server", "child"}
    assert by_role["child"] == {
        "role": "child",
        "pid": 9,
        "host": "atlas",
        "job_id": "job_1",
        "device": "cuda:1",
    }
