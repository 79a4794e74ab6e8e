"""Whole files or none, and the leftovers of killed processes."""

import os
from pathlib import Path
from time import time

import pytest

from data_store import durable


def test_a_file_takes_its_place_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "in" / "file"
    with durable.replacing(target) as out:
        out.write(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert [p.name for p in target.parent.iterdir()] == ["file"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(TypeError), durable.replacing(target) as out:
        out.write("no bytes")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_everything_is_on_disk_or_somebody_has_no_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"new")
    ticks: list[int] = []
    durable.everything_to_disk(lambda: ticks.append(1))
    assert ticks

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        durable.everything_to_disk(stop)


def test_sweep_takes_only_what_is_old(tmp_path: Path) -> None:
    for age in ("old", "new"):
        (tmp_path / f"{age}.part").touch()
        (tmp_path / f"{age}-folder.part").mkdir()
        (tmp_path / f"{age}-folder.part" / "file").touch()
    (tmp_path / "kept").touch()
    for path in ("old.part", "old-folder.part/file", "old-folder.part", "kept"):
        os.utime(tmp_path / path, (0, time() - 7200))
    durable.sweep(tmp_path, "*.part")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kept", "new-folder.part", "new.part"]
