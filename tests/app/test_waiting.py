"""Long polls: everyone is woken in time, by one reader."""

import asyncio
import time

from app.waiting import Waiting
from database import jobs
from database.tables import State


def finish(server, job_id, state=State.succeeded, **more):
    with server.sessions.begin() as session:
        jobs.finish(session, jobs.fence_of(jobs.get(session, job_id)), state=state, **more)


def test_waiting_returns_when_the_job_has_ended(server, train):
    job_id = train(server.settings, end=None).job_id
    waiting = server.soon("GET", f"/jobs/{job_id}?wait=20")
    time.sleep(0.2)
    assert not waiting.done()
    finish(server, job_id)
    assert waiting.result(timeout=5).json()["state"] == "succeeded"


def test_waiting_returns_after_the_time_asked_for(server):
    queued = server.post("/train", json={"dataset": "digits"}).json()["id"]
    began = time.monotonic()
    assert server.get(f"/jobs/{queued}?wait=0.3").json()["state"] == "queued"
    assert 0.25 < time.monotonic() - began < 5


def test_waiting_for_an_ended_job_returns_at_once(shared, trained):
    began = time.monotonic()
    assert shared.get(f"/jobs/{trained.job_id}?wait=55").json()["state"] == "succeeded"
    assert time.monotonic() - began < 5


def test_one_reader_serves_all_who_wait():
    asked: list[set[str]] = []

    def ended(job_ids: set[str]) -> set[str]:
        asked.append(job_ids)
        return {"a"} if len(asked) > 2 else set()

    async def many() -> None:
        waiting = Waiting(ended)
        others = [asyncio.create_task(waiting.wait("b", seconds=30)) for _ in range(50)]
        await asyncio.gather(*(waiting.wait("a", seconds=30) for _ in range(50)))
        assert not any(task.done() for task in others)
        waiting.close()
        await asyncio.wait_for(asyncio.gather(*others), 5)
        await waiting.wait("c", seconds=30)

    asyncio.run(many())
    assert asked[0] == {"a", "b"}
    assert len(asked) <= 4


def test_a_database_that_does_not_answer_is_asked_again(caplog):
    asked: list[set[str]] = []

    def ended(job_ids: set[str]) -> set[str]:
        asked.append(job_ids)
        if len(asked) == 1:
            raise OSError("gone")
        return job_ids

    asyncio.run(Waiting(ended).wait("a", seconds=30))
    assert len(asked) == 2
    assert "gone" in caplog.text


def test_nobody_is_asked_about_jobs_that_nobody_waits_for():
    asked: list[set[str]] = []

    def ended(job_ids: set[str]) -> set[str]:
        asked.append(job_ids)
        return set()

    async def one() -> None:
        await Waiting(ended).wait("a", seconds=0.05)
        before = len(asked)
        await asyncio.sleep(0.3)
        assert len(asked) == before

    asyncio.run(one())
