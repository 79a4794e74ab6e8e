import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from database.jobs import Fence
from models_store.recipe import Recipe
from workers import endings, processes
from workers.child import HeldDevice
from workers.reporter import Stop, Stopped
from workers.task import Task

# What a child does with its job and how it says so is seen in test_supervisor.py, where there are
# real ones.


def test_a_device_is_given_up_and_taken_by_word() -> None:
    ours, theirs = Pipe()
    held = HeldDevice(theirs, Stop())
    taken: list[tuple[str, ...]] = []

    held.give_up()
    taking = threading.Thread(target=lambda: taken.append(held.take()))
    taking.start()
    words = [ours.recv(), ours.recv()]
    ours.send(("cuda:1", "cuda:2"))
    taking.join()

    assert words == ["give up", "take"]
    assert taken == [("cuda:1", "cuda:2")]


def test_a_stop_ends_the_wait_for_a_device() -> None:
    ours, theirs = Pipe()
    stop = Stop()
    caught: list[Any] = []

    def take() -> None:
        with pytest.raises(Stopped) as raised:
            HeldDevice(theirs, stop).take()
        caught.append(raised)

    taking = threading.Thread(target=take)
    taking.start()
    assert ours.recv() == "take"
    stop.set("cancel")
    taking.join(timeout=10)

    assert caught


HANGING = """
import functools, pickle, sys, time
from multiprocessing import Pipe
from data_store import arrays
from workers import child, run_job

arrays.load = lambda *_, **__: time.sleep(100)
run_job.run = functools.partial(run_job.run, stuck_seconds=0.1)
ours, theirs = Pipe()
child.main(pickle.load(sys.stdin.buffer), "here", theirs)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="children lead sessions of their own")
def test_work_that_hangs_fails_the_job_and_ends_the_process(
    claim: Callable[[Recipe], Fence],
    recipe: Callable[..., Recipe],
    write_images: Callable[..., Path],
    url: str,
    tmp_path: Path,
) -> None:
    write_images("train")
    fence = claim(recipe())
    folders = {
        name: tmp_path / name
        for name in ("datasets", "cache", "checkpoints", "weights", "runs", "uploads")
    }
    given = Task(fence=fence, kind="train", device="cpu", database=url, **folders)

    done = subprocess.run(
        [sys.executable, "-c", HANGING], input=pickle.dumps(given), timeout=100, check=False
    )

    assert done.returncode == 0
    ending = endings.read(given.run, fence.claim)
    assert ending is not None
    assert ending.state == "failed"
    assert ending.error is not None
    assert ending.error["code"] == "worker_stuck"
    assert "the training does not move" in (given.run / "log.txt").read_text()
    assert not (given.run / processes.PROCESS_FILE).exists()
