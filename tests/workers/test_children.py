"""What is known of children, and how they are made."""

from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from database.jobs import State
from settings import Settings
from tests.workers.stage import Process, Stage
from workers import children, supervisor
from workers.children import Launcher
from workers.task import Task

Until = Callable[..., Any]
Run = Callable[..., list[BaseException]]


def test_a_child_that_never_comes_up_is_killed(
    stage: Stage, run: Run, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "START_SECONDS", 0.2)
    monkeypatch.setattr(supervisor, "WATCH_SECONDS", 0.05)

    def hang(given: Task, channel: Connection) -> None:
        stage.started[-1].killed.wait()

    job_id = stage.submit("hanging", hang)
    run()

    until(lambda: stage.state(job_id) == State.failed)
    assert all(process.killed.is_set() for process in stage.started[1:])


def wait_for_ever(channel: Connection) -> None:
    channel.poll(None)


def answer(word: str, channel: Connection) -> None:
    channel.send(word)


def test_a_process_is_given_what_it_needs_and_its_end_of_a_pipe(
    stage: Stage, tmp_path: Path
) -> None:
    process, channel = Launcher(Settings(home=tmp_path)).start(answer, "hello")
    assert channel.recv() == "hello"
    process.join()
    assert not process.is_alive()


def test_a_process_is_asked_something(stage: Stage, tmp_path: Path) -> None:
    launcher = Launcher(Settings(home=tmp_path))

    assert launcher.ask(answer, "hello", unless=lambda: False) == "hello"
    assert not stage.started[0].is_alive()


def test_an_answer_is_not_waited_for_by_who_has_to_stop(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        Launcher(Settings(home=tmp_path)).ask(wait_for_ever, unless=lambda: True)


def test_a_start_that_fails_leaves_no_pipe_open(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(process: Process) -> None:
        raise EOFError

    monkeypatch.setattr(Process, "start", refuse)
    with pytest.raises(EOFError):
        Launcher(Settings(home=tmp_path)).start(answer, "hello")
