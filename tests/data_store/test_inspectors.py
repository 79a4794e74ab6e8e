"""Processes that look at many files."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from data_store import inspectors
from data_store.inspection import Seen, Unreadable

Write = Callable[[dict[str, bytes]], Path]
Png = Callable[..., bytes]


@pytest.fixture
def paths(write: Write, png: Png) -> list[str]:
    root = write({f"{n}.png": png(n % 256, (8, 1 + n)) for n in range(150)} | {"7.png": b"junk"})
    return [str(root / f"{n}.png") for n in range(150)]


def started() -> set[int]:
    """Processes that this one has started and that are at work."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z":
            found.add(int(file.parent.name))
    return found


@pytest.mark.parametrize("processes", [None, 0, 1, 2])
def test_every_file_is_seen_once(paths: list[str], processes: int | None) -> None:
    before = started()

    found = list(inspectors.look_at(paths, lambda: None, processes=processes))

    assert sorted(place for place, _ in found) == list(range(150))
    for place, seen in found:
        if place == 7:
            assert isinstance(seen, Unreadable)
        else:
            assert isinstance(seen, Seen)
            assert seen.height == 1 + place
    assert started() <= before  # what others left may end meanwhile


def test_no_file_is_no_work() -> None:
    assert list(inspectors.look_at([], lambda: None, processes=2)) == []


def test_a_tick_that_raises_ends_all_processes_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "1.png")  # whoever opens it waits
    before = started()
    began = time.monotonic()

    def tick() -> None:
        if time.monotonic() - began > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(inspectors.look_at([str(tmp_path / "1.png")], tick, processes=1))
    assert time.monotonic() - began < 60  # it would wait forever
    assert started() <= before  # what others left may end meanwhile


def test_a_file_that_ends_its_process_is_unreadable(paths: list[str], tmp_path: Path) -> None:
    """The process is killed while it reads that file, in a batch and again when alone."""
    hard = tmp_path / "hard.png"
    os.mkfifo(hard)
    paths[10] = str(hard)
    before = started()
    killed: set[int] = set()

    def tick() -> None:
        for pid in started() - before - killed:
            try:
                writer = os.open(hard, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody has it open to read
                return
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
            os.close(writer)

    found = dict(inspectors.look_at(paths, tick, processes=1))

    unreadable = found.pop(10)
    assert isinstance(unreadable, Unreadable)
    assert "ended the process" in unreadable.message
    assert len(killed) == 2
    assert sum(isinstance(seen, Seen) for seen in found.values()) == 148
    assert started() <= before  # what others left may end meanwhile


def test_processes_that_do_not_even_start_are_given_up(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(broken))

    with pytest.raises(RuntimeError, match="end before they do"):
        list(inspectors.look_at(paths, lambda: None, processes=2))
