import pickle
import subprocess
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from database.checkpoints import Known
from database.jobs import Fence
from workers import child, endings, probing, processes, task
from workers.task import Task


@pytest.fixture
def given(tmp_path: Path) -> Task:
    return Task(
        fence=Fence(job_id="job_1", worker_id="w1", claim=2),
        kind="train",
        device="cuda:1",
        database="sqlite:///x",
        datasets=tmp_path / "datasets",
        cache=tmp_path / "cache",
        checkpoints=tmp_path / "checkpoints",
        weights=tmp_path / "weights",
        runs=tmp_path / "runs",
        uploads=tmp_path / "uploads",
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


BROKEN = """
import pickle, sys
from multiprocessing import Pipe
from workers import task

sys.modules["torch"] = None
task.work(pickle.load(sys.stdin.buffer), "here", Pipe()[1])
"""


def begin(given: Task) -> int:
    """Begins a job in a process of its own, where an import raises; its exit code."""
    done = subprocess.run(
        [sys.executable, "-c", BROKEN], input=pickle.dumps(given), timeout=100, check=False
    )
    return done.returncode


def test_a_job_that_cannot_begin_fails_and_says_why(given: Task) -> None:
    given.run.mkdir(parents=True)

    assert begin(given) == 0

    ending = endings.read(given.run, given.fence.claim)
    assert ending is not None
    assert ending.state == "failed"
    assert ending.error is not None
    assert ending.error["code"] == "job_failed"
    said = "The job's process could not begin: ModuleNotFoundError: "
    assert ending.error["message"].startswith(said)


def test_a_job_whose_folder_cannot_be_made_is_told_by_its_exit_code(given: Task) -> None:
    given.runs.write_text("somebody's file")

    code = begin(given)

    assert code == processes.UNWRITTEN
    assert endings.of_exit_code(code).state == "failed"


def test_the_probe_is_done_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[object] = []
    monkeypatch.setattr(probing, "probe", lambda *given: got.extend(given))
    _, theirs = Pipe()

    known = Known(frozenset({"ckpt_1"}), {"job_1": 2})
    task.probe(Path("store"), known, theirs)

    assert got == [Path("store"), known, theirs]


def test_standing_by_is_the_childs(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[object] = []
    monkeypatch.setattr(child, "stand_by", lambda *given: got.extend(given))
    _, theirs = Pipe()

    task.stand_by("cuda:1", "here", theirs)

    assert got == ["cuda:1", "here", theirs]
