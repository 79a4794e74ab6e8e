import pickle
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from database.jobs import Fence
from workers import child, task
from workers.task import Task


@pytest.fixture
def given(tmp_path: Path) -> Task:
    return Task(
        fence=Fence(job_id="job_1", worker_id="w1", claim=2),
        device="cuda:1",
        database="sqlite:///x",
        datasets=tmp_path / "datasets",
        cache=tmp_path / "cache",
        checkpoints=tmp_path / "checkpoints",
        runs=tmp_path / "runs",
    )


def test_a_task_crosses_to_the_child_as_it_is(given: Task, tmp_path: Path) -> None:
    assert pickle.loads(pickle.dumps(given)) == given
    assert given.run == tmp_path / "runs" / "job_1"


def test_work_is_the_childs(given: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[tuple[Task, str, Connection]] = []
    monkeypatch.setattr(child, "main", lambda *arguments: got.append(arguments))
    _, theirs = Pipe()

    task.work(given, "here", theirs)

    assert got == [(given, "here", theirs)]


def test_the_probe_is_the_childs(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[object] = []
    monkeypatch.setattr(child, "probe", lambda *given: got.extend(given))
    _, theirs = Pipe()

    task.probe(theirs, Path("store"), frozenset({"ckpt_1"}))

    assert got == [theirs, Path("store"), {"ckpt_1"}]
