"""What the machine has, and what is swept."""

import os
from multiprocessing import Pipe
from pathlib import Path

from database.checkpoints import Known
from workers import devices, probing


def test_the_probe_tells_devices_and_the_forkserver_and_sweeps(tmp_path: Path) -> None:
    ours, theirs = Pipe()
    for name in (".tmp-ckpt_1", ".tmp-ckpt_2"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / ".tmp-ckpt_1", (0, 0))  # left by a crash long ago

    probing.probe(tmp_path, Known(frozenset(), {}), theirs)

    assert ours.recv() == (devices.found(), devices.cores(), os.getppid())
    assert [path.name for path in tmp_path.iterdir()] == [".tmp-ckpt_2"]
