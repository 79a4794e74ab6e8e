import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Stands in for `python -m app.admin`: says how it was started, and ends as it is told.
STAND_IN = """
import json, os, sys
said = {name: os.environ.get(name) for name in ("DANLU_HOME", "DANLU_LOG_LEVEL")}
print(json.dumps([sys.argv[1:], said, os.getpid()]))
sys.exit(4)
"""
RUN = f"""
import sys
from danlu import admin, cli
admin.COMMAND = (sys.executable, "-c", {STAND_IN!r})
cli.app()
"""


def start(*words: str, **variables: str) -> "subprocess.Popen[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DANLU_")}
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *words],
        stdout=subprocess.PIPE,
        env={**kept, **variables},
        text=True,
    )


@pytest.mark.parametrize(
    ("words", "passed"),
    [
        (["backup", "monday"], ["backup", "--", "monday"]),
        (
            ["backup", "--datasets", "--json", "--", "-monday"],
            ["backup", "--datasets", "--json", "--", "-monday"],
        ),
        (["restore", "monday"], ["restore", "--", "monday"]),
        (
            ["restore", "monday", "--without-damaged"],
            ["restore", "--without-damaged", "--", "monday"],
        ),
        (["doctor"], ["doctor", "--url", "http://127.0.0.1:8000"]),
        (["doctor", "--quick", "--json"],
         ["doctor", "--url", "http://127.0.0.1:8000", "--quick", "--json"]),
    ],
)  # fmt: skip
def test_the_program_takes_the_place_of_the_command(words: list[str], passed: list[str]) -> None:
    running = start(*words)
    said, _ = running.communicate(timeout=60)

    arguments, _variables, pid = json.loads(said)
    assert arguments == passed
    assert pid == running.pid  # so that signals and exit codes are its own
    assert running.returncode == 4


def test_it_is_told_which_home_and_keeps_other_settings(tmp_path: Path) -> None:
    running = start("doctor", "--home", str(tmp_path), DANLU_HOME="/other", DANLU_LOG_LEVEL="debug")
    said, _ = running.communicate(timeout=60)

    assert json.loads(said)[1] == {"DANLU_HOME": str(tmp_path), "DANLU_LOG_LEVEL": "debug"}


def test_without_a_home_it_takes_the_default() -> None:
    running = start("doctor", DANLU_URL="http://elsewhere:9000")
    said, _ = running.communicate(timeout=60)

    words, variables, _ = json.loads(said)
    assert words == ["doctor", "--url", "http://elsewhere:9000"]
    assert variables["DANLU_HOME"] is None


def test_the_real_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "danlu", "backup", "x", "--home", str(tmp_path / "none")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("no_home: ")
