"""Short ways to a job in any state."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from database import events, jobs

Sessions = sessionmaker[Session]


@pytest.fixture
def enqueue(sessions: Sessions) -> Callable[..., jobs.Job]:
    def enqueue(**given: object) -> jobs.Job:
        asked = {"kind": "train", "dataset": "digits", "recipe": {"epochs": 3}, "owner": "lin"}
        with sessions.begin() as session:
            return jobs.enqueue(session, **(asked | given))  # type: ignore[arg-type]

    return enqueue


@pytest.fixture
def claim(sessions: Sessions) -> Callable[..., jobs.Job | None]:
    def claim(worker_id: str = "w1", **given: object) -> jobs.Job | None:
        asked = {"host": "here", "device": "cpu"}
        with sessions.begin() as session:
            return jobs.claim(session, worker_id=worker_id, **(asked | given))  # type: ignore[arg-type]

    return claim


@pytest.fixture
def job_in(
    sessions: Sessions,
    enqueue: Callable[..., jobs.Job],
    claim: Callable[..., jobs.Job | None],
) -> Callable[..., tuple[str, jobs.Fence | None]]:
    """Makes a new job in the given state; the only one that is not ended or claimed."""

    def job_in(state: jobs.State, **given: object) -> tuple[str, jobs.Fence | None]:
        job_id = enqueue(**given).id
        if state == jobs.State.queued:
            return job_id, None
        job = claim()
        assert job is not None
        assert job.id == job_id
        fence = jobs.fence_of(job)
        with sessions.begin() as session:
            if state != jobs.State.starting:
                assert jobs.start(session, fence, pid=7, device="cpu")
            if state == jobs.State.cancelling:
                jobs.cancel(session, job_id)
            if state in jobs.ENDED:
                assert jobs.finish(session, fence, state=state)
        return job_id, fence

    return job_in


@pytest.fixture
def running(job_in: Callable[..., tuple[str, jobs.Fence]]) -> jobs.Fence:
    return job_in(jobs.State.running)[1]


@pytest.fixture
def state_of(sessions: Sessions) -> Callable[[str], jobs.State]:
    def state_of(job_id: str) -> jobs.State:
        with sessions() as session:
            return jobs.get(session, job_id).state

    return state_of


@pytest.fixture
def told(sessions: Sessions) -> Callable[..., list[tuple[str, dict[str, object]]]]:
    def told(job_id: str | None = None) -> list[tuple[str, dict[str, object]]]:
        """Type and data of every event of the job, or of all jobs, in order."""
        with sessions() as session:
            found = events.since(session, 0, job_id=job_id, limit=10_000)
        return [(event.type, event.data) for event in found]

    return told


@pytest.fixture
def at_once() -> Callable[[str, str, int], list[list[str]]]:
    """Runs at_once.py: what each of several processes got when all did it at the same moment."""

    def at_once(what: str, url: str, count: int) -> list[list[str]]:
        program = Path(__file__).with_name("at_once.py")
        command = [sys.executable, str(program), what, url, str(count)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        got: list[list[str]] = json.loads(done.stdout)
        assert len(got) == count
        return got

    return at_once
