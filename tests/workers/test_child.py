import json
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from database import jobs
from database.jobs import Fence
from models_store.recipe import Recipe
from workers import processes
from workers.child import HeldDevice
from workers.reporter import Stop, Stopped

PROGRAM = """
import json, sys
from multiprocessing import Pipe
from pathlib import Path
from database.jobs import Fence
from workers import child
from workers.task import Task

home, url, fence = Path(sys.argv[1]), sys.argv[2], Fence(*json.loads(sys.argv[3]))
folders = {name: home / name for name in ("datasets", "cache", "checkpoints", "runs")}
child.main(Task(fence=fence, device="cpu", database=url, **folders), "here", Pipe()[0])
print("never reached")
"""


def test_a_child_does_one_job_and_says_how_it_ended(
    claim: Callable[[Recipe], Fence],
    recipe: Callable[..., Recipe],
    job: Callable[[Fence], jobs.Job],
    url: str,
    tmp_path: Path,
) -> None:
    fence = claim(recipe(dataset="gone"))
    words = json.dumps([fence.job_id, fence.worker_id, fence.claim])

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), url, words],
        capture_output=True,
        timeout=90,
        check=False,
    )

    run = tmp_path / "runs" / fence.job_id
    ended = processes.read(run / processes.EXIT_FILE)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")  # all of it is in the log
    assert ended is not None
    assert (ended["claim"], ended["state"], ended["exception"]) == (1, "failed", "Problem")
    assert ended["error"]["code"] == "dataset_unknown"
    assert "Traceback" in (run / "log.txt").read_text()
    assert not (run / processes.PROCESS_FILE).exists()
    assert job(fence).state == "running"  # its supervisor says that it is over


def test_a_device_is_given_up_and_taken_by_word() -> None:
    ours, theirs = Pipe()
    held = HeldDevice(theirs, Stop())
    taken: list[str] = []

    held.give_up()
    taking = threading.Thread(target=lambda: taken.append(held.take()))
    taking.start()
    words = [ours.recv(), ours.recv()]
    ours.send("cuda:1")
    taking.join()

    assert words == ["give up", "take"]
    assert taken == ["cuda:1"]


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
