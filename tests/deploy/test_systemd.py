"""The systemd units: systemd understands them, and they fit what `danlu` does."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from danlu.serve import GRACE, HOPELESS
from settings import Settings

FOLDER = Path(__file__).parent.parent.parent / "deploy/systemd"
UNITS = sorted(FOLDER.glob("*.service"))
SERVING = [unit for unit in UNITS if unit.stem != "danlu-worker"]

every_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)


def settings(unit: Path) -> Iterator[tuple[str, str]]:
    """Each setting of a unit; some are there more than once."""
    for line in unit.read_text().splitlines():
        if re.match(r"\w+=", line):
            name, _, value = line.partition("=")
            yield name, value


def one(unit: Path, name: str) -> str:
    [value] = [value for found, value in settings(unit) if found == name]
    return value


def test_there_are_three() -> None:
    assert {unit.stem for unit in UNITS} == {"danlu", "danlu-server", "danlu-worker"}


@every_unit
def test_systemd_understands_it(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is missing: apt-get install systemd")
    # It looks for the program, which is installed elsewhere here.
    program = shutil.which("true")
    for each in UNITS:
        text = each.read_text().replace("/opt/danlu/bin/danlu", f"{program} danlu")
        (tmp_path / each.name).write_text(text)

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit.name)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert unit.stem not in done.stderr


@every_unit
def test_it_starts_again_when_that_helps(unit: Path) -> None:
    hopeless = {int(code) for code in one(unit, "RestartPreventExitStatus").split()}

    assert one(unit, "Restart") == "on-failure"
    assert hopeless >= {*HOPELESS, 2, 3}
    assert 1 not in hopeless


@every_unit
def test_it_gives_danlu_the_time_that_it_takes(unit: Path) -> None:
    assert one(unit, "KillMode") == "mixed"
    assert int(one(unit, "TimeoutStopSec")) > GRACE + 10


@every_unit
def test_a_job_out_of_memory_ends_nothing_else(unit: Path) -> None:
    assert one(unit, "OOMPolicy") == "continue"


@every_unit
def test_it_may_do_no_more_than_it_must(unit: Path) -> None:
    given = dict(settings(unit))

    assert given["User"] == given["Group"] == "danlu"
    assert given["NoNewPrivileges"] == given["PrivateTmp"] == given["ProtectHome"] == "yes"
    assert given["ProtectSystem"] == "strict"
    assert given["CapabilityBoundingSet"] == ""


@every_unit
def test_variables_that_are_set_exist(unit: Path) -> None:
    known = {f"DANLU_{name.upper()}" for name in Settings.model_fields}

    named = set(re.findall(r"DANLU_[A-Z_]*[A-Z]", unit.read_text())) - {"DANLU_NAME"}

    assert named <= known
    assert "DANLU_HOME" in named


@pytest.mark.parametrize("unit", SERVING, ids=lambda unit: unit.stem)
def test_the_key_is_a_credential(unit: Path) -> None:
    name, _, _ = one(unit, "LoadCredential").partition(":")

    assert f"DANLU_API_KEY_FILE=%d/{name}" in [value for _, value in settings(unit)]


def test_one_home_has_one_of_them() -> None:
    """Those that start wait until those that they replace have ended: `After` and `Conflicts`."""
    for unit in UNITS:
        others = one(unit, "Conflicts").split()

        assert others
        assert set(others) <= set(one(unit, "After").split())


def test_the_options_of_the_programs() -> None:
    programs = {unit.stem: one(unit, "ExecStart").split()[1:] for unit in UNITS}

    assert programs == {
        "danlu": ["serve"],
        "danlu-server": ["serve", "--no-worker"],
        "danlu-worker": ["worker"],
    }
