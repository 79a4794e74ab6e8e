"""Sizes and times of many files: the same from any number of processes, whatever ends them."""

import os
import sys
from pathlib import Path

import pytest

from data_store import statuses


def names(root: Path) -> statuses.Folders:
    """Three folders of which the middle one is empty; each file has another size and time."""
    found = []
    for folder, count in (("a", 7), ("b", 0), ("c\udcff", 5)):
        place = root / folder
        place.mkdir()
        for number in range(count):
            file = place / f"{number}.png"
            file.write_bytes(bytes(number + 10 * count))
            os.utime(file, ns=(0, -5 + 10**9 * number * count))
        found.append((str(place), [f"{number}.png" for number in range(count)]))
    return found


def expected(folders: statuses.Folders) -> list[tuple[int, int]]:
    files = [Path(folder) / name for folder, all_ in folders for name in all_]
    return [(file.stat().st_size, file.stat().st_mtime_ns) for file in files]


@pytest.mark.parametrize("processes", [0, 1, 2, 20])
def test_all_files_in_order(
    tmp_path: Path, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statuses, "_LATE", 1)
    folders = names(tmp_path)
    found = statuses.of(folders, processes=min(processes, 3))
    assert list(zip(*found, strict=True)) == expected(folders)
    assert list(map(len, statuses.of([], processes=processes))) == [0, 0]


def test_a_process_that_does_not_answer_is_stood_in_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statuses, "_LATE", 1)
    folders = names(tmp_path)
    for program in ("/bin/true", "/bin/false", "/nowhere/python"):
        monkeypatch.setattr(sys, "executable", program)
        found = statuses.of(folders, processes=1)
        assert list(zip(*found, strict=True)) == expected(folders)


def test_a_file_that_is_gone_is_an_error_whoever_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statuses, "_LATE", 0)
    folders = names(tmp_path)
    (tmp_path / "c\udcff" / "4.png").unlink()
    for processes in (0, 1):
        with pytest.raises(FileNotFoundError):
            statuses.of(folders, processes=processes)


def test_few_files_take_no_other_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = names(tmp_path)
    monkeypatch.setattr(statuses, "_cores", lambda: 8)
    monkeypatch.setattr(statuses, "_Helper", lambda *_: pytest.fail("it was asked"))
    assert list(zip(*statuses.of(folders), strict=True)) == expected(folders)
    monkeypatch.setattr(statuses, "_WORTH", 12)
    monkeypatch.setattr(statuses, "_LATE", 0)
    with pytest.raises(pytest.fail.Exception):
        statuses.of(folders)
