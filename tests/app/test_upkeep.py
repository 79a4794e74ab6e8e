"""The server says that it is alive, and gives jobs back whose workers are gone."""

import time

from app import upkeep
from database import jobs, processes
from database.leases import Watch
from database.tables import State


def alive(server) -> list[str]:
    with server.sessions.begin() as session:
        return [row.role for row in processes.alive(session)]


def test_the_server_is_listed_while_it_runs(settings, serve):
    with serve(settings) as server:
        assert set(alive(server)) - {"predictor"} == {"server"}
    with serve(settings) as again:
        assert set(alive(again)) - {"predictor"} == {"server"}


def test_it_says_goodbye(settings, serve, monkeypatch):
    """The server that it is played in says nothing meanwhile: it would be listed again."""
    monkeypatch.setattr(upkeep, "LOOK_SECONDS", 3600.0)
    with serve(settings) as server:
        held = server.app.state.resources

        async def briefly() -> None:
            async with upkeep.running(held, Watch(server.sessions, server.sessions)):
                assert alive(server) != []

        server.portal.call(briefly)
        assert alive(server) == []


def test_a_job_whose_worker_is_lost_goes_back_to_the_queue(server):
    job_id = server.post("/train", json={"dataset": "digits"}).json()["id"]
    with server.sessions.begin() as session:
        jobs.claim(session, worker_id="w", host="h", device="cpu")
    deadline = time.monotonic() + 60
    while server.get(f"/jobs/{job_id}").json()["state"] != State.queued:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert server.get(f"/jobs/{job_id}").json()["attempt"] == 2


def test_a_full_disk_is_one_line_in_the_log(server, fill_up, caplog):
    fill_up(server)
    with caplog.at_level("ERROR"):
        deadline = time.monotonic() + 60
        while "upkeep failed" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert "upkeep failed, it is tried again: database or disk is full" in caplog.text
    assert "Traceback" not in caplog.text
