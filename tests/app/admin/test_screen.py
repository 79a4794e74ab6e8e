import os
import pty
import subprocess
import sys

import pytest

from app.admin import screen


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (25_000_000, "25.0 MB"), (3e9, "3.0 GB"),
     (7.25e12, "7.2 TB")],
)  # fmt: skip
def test_bytes_as_people_say_them(count: float, said: str) -> None:
    assert screen.size(count) == said


def test_things_are_counted() -> None:
    assert screen.counted(1, "job") == "1 job"
    assert screen.counted(1200, "job") == "1,200 jobs"
    assert screen.counted(0, "job goes", "jobs go") == "0 jobs go"


def test_what_was_done_and_what_was_not(capsys: pytest.CaptureFixture[str]) -> None:
    screen.say("backup", "/backups/[monday]")
    screen.warn("no_home", "There is none.", "Make one.")

    out, err = capsys.readouterr()
    assert out == "backup   /backups/[monday]\n"
    assert err == "no_home: There is none.\nMake one.\n"


def test_without_a_terminal_there_is_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with screen.progress() as told:
        told("checksums", 1, 2)

    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_there_is_one() -> None:
    program = """
from app.admin import screen
with screen.progress() as told:
    told("checksums", 1, 2)
    told("checksums", 2, 2)
    told("devices", 0, 0)
print("done")
"""
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
        timeout=60,
        check=True,
    )
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)

    assert done.stdout == b"done\n"
    assert "devices" in shown
