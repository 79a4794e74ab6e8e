"""What the program that asks for sizes and times answers."""

import marshal
import subprocess
import sys
from array import array
from pathlib import Path

import pytest

from data_store import asking


def test_sizes_and_times_are_those_that_the_system_tells(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "b").symlink_to("a")
    told = (tmp_path / "a").stat()
    sizes, times = asking.ask([(str(tmp_path), ["a", "b"])])
    assert sizes.tolist() == [3, 3]
    assert times.tolist() == [told.st_mtime_ns] * 2
    with pytest.raises(FileNotFoundError):
        asking.ask([(str(tmp_path), ["gone"])])


@pytest.mark.parametrize("name", ["a", "gone"])
def test_the_program_answers_or_ends_with_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    command = [sys.executable, "-I", "-S", asking.__file__]
    asked = marshal.dumps([(str(tmp_path), [name])])
    ran = subprocess.run(command, input=asked, stdout=subprocess.PIPE, check=False)
    assert ran.returncode == (0 if name == "a" else 1)
    if name == "a":
        assert array("q", ran.stdout).tolist() == [5, (tmp_path / "a").stat().st_mtime_ns]
