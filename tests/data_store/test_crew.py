"""Processes that do one thing to many items."""

import importlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from data_store import crew
from data_store.crew import Crew


@pytest.fixture
def deeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A module that processes can import what they do from."""
    (tmp_path / "deeds.py").write_text(DEEDS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("deeds")
    del sys.modules["deeds"]


DEEDS = """
import os, time

def run(items):
    return [eval(item, {"os": os, "time": time}) for item in items]
"""


def lost(item: object) -> list[str]:
    return [f"lost {item}"]


def together(found: "Sequence[tuple[range, list]]") -> list:
    return [each for _, answer in found for each in answer]


@pytest.mark.parametrize("processes", [0, 1, 3])
def test_answers_come_in_order(processes: int, children) -> None:
    before = children()
    with Crew(list, lost, processes=processes) as some:
        found = list(some.run(range(100), lambda: None, batch=7))
        assert [place for place, _ in found][:2] == [range(7), range(7, 14)]
        assert together(found) == list(range(100))
        assert list(some.run([], lambda: None)) == []
        assert together(list(some.run(range(5, 9), lambda: None, batch=1))) == [5, 6, 7, 8]
        assert len(children() - before) <= processes
    assert children() <= before  # what others left may end meanwhile


def test_no_more_processes_than_there_are_batches(children) -> None:
    before = children()
    with Crew(list, lost, processes=64) as some:
        assert together(list(some.run(range(10), lambda: None, batch=5))) == list(range(10))
        assert len(children() - before) == 2


def test_an_item_that_ends_its_process_is_lost_alone(deeds) -> None:
    items = ["1", "2", "os._exit(3)", "4", "5"]
    with Crew(deeds.run, lost, processes=2) as some:
        found = together(list(some.run(items, lambda: None, batch=3)))
        assert found == [1, 2, "lost os._exit(3)", 4, 5]
        # So does an error of the work itself, which no work is to have.
        assert together(list(some.run(["1 / 0"], lambda: None))) == ["lost 1 / 0"]


def test_ends_are_counted_for_each_run(deeds, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many items are given alone, one after the other, each says itself what it does."""
    monkeypatch.setattr(crew, "_MOST_ENDS", 1)
    with Crew(deeds.run, lost, processes=1) as some:
        for _ in range(3):
            assert together(list(some.run(["os._exit(3)"], lambda: None))) == ["lost os._exit(3)"]


def test_a_run_that_is_left_is_forgotten() -> None:
    with Crew(list, lost, processes=2) as some:
        first = some.run(range(1000), lambda: None, batch=2)
        assert next(first) == (range(2), [0, 1])
        first.close()
        assert together(list(some.run("abcdef", lambda: None, batch=4))) == list("abcdef")


def test_a_tick_that_raises_ends_it_at_once(deeds, children) -> None:
    before, began = children(), time.monotonic()

    def tick() -> None:
        if time.monotonic() - began > 0.1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Crew(deeds.run, lost, processes=1) as some:
        list(some.run(["time.sleep(600)"], tick))
    assert time.monotonic() - began < 60
    assert children() <= before  # what others left may end meanwhile


def test_processes_that_do_not_even_start_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(broken))
    with (
        pytest.raises(RuntimeError, match="end before they do"),
        Crew(list, lost, processes=2) as some,
    ):
        list(some.run(range(100), lambda: None))


def test_little_work_is_done_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "_cores", lambda: 96)
    assert crew.worth(0.4) == 0
    assert crew.worth(0.6) == 8
