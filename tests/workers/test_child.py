import os
import threading
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from workers import child, devices
from workers.child import HeldDevice
from workers.reporter import Stop, Stopped

# What a child does with its job and how it says so is seen in test_supervisor.py, where there are
# real ones.


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


def test_the_probe_tells_devices_and_the_forkserver_and_sweeps(tmp_path: Path) -> None:
    ours, theirs = Pipe()
    for name in (".tmp-ckpt_1", ".tmp-ckpt_2"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / ".tmp-ckpt_1", (0, 0))  # left by a crash long ago

    child.probe(theirs, tmp_path, frozenset())

    assert ours.recv() == (devices.found(), os.getppid())
    assert [path.name for path in tmp_path.iterdir()] == [".tmp-ckpt_2"]
