"""Who is said to be alive."""

import os
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import pytest

from database import processes as process_rows
from database.jobs import State
from tests.workers.stage import PIDS, Stage, succeed
from workers import supervisor
from workers.pool import Pool
from workers.presence import Presence
from workers.task import Task

Until = Callable[..., Any]
Run = Callable[..., list[BaseException]]


def test_processes_on_the_cpu_share_one_place_and_all_are_shown(
    stage: Stage, run: Run, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.05)
    over, seen = threading.Event(), []

    def look(given: Task, channel: Connection) -> None:
        seen.append(given.devices)
        channel.send([next(PIDS), next(PIDS)])
        over.wait()
        succeed(given)

    def children() -> list[tuple[str | None, str | None]]:
        with stage.sessions() as session:
            rows = process_rows.alive(session)
        return [(row.job_id, row.device) for row in rows if row.role == "child"]

    job_id = stage.submit("three", look, devices=3)
    too_many = stage.submit("five", look, devices=5)  # there are four cores
    run()

    until(lambda: children() == [(job_id, "cpu")] * 3)
    with stage.sessions() as session:
        told = [one.info for one in process_rows.alive(session) if one.role == "supervisor"]
    assert (told[0]["devices"], told[0]["cores"]) == (["cpu"], 4)
    assert stage.job(job_id).device == "cpu"
    over.set()
    until(lambda: stage.state(too_many) == State.succeeded)
    assert seen == [("cpu",) * 3, ("cpu",)]
    until(lambda: children() == [])


def test_what_was_said_is_taken_back(sessions: Any) -> None:
    said = Presence(sessions, "here")

    def pids() -> list[int]:
        with sessions() as session:
            return [row.pid for row in process_rows.alive(session)]

    said.forkserver(5)
    said.standby(6, "cuda:0")
    said.standby(7, "cuda:1")
    said.supervisor(Pool(["cuda:0"], cores=4))
    assert sorted(pids()) == sorted([5, 6, 7, os.getpid()])
    said.forget(6, 99)
    assert 6 not in pids()
    said.forget_all()
    assert pids() == []
