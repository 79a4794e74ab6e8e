import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from danlu import Client, DanluError
from danlu import demo as demonstration
from danlu.demo import Outcome, demo

FOLDER = Path(__file__).parent
PYTHON = sys.executable
DEMO = """
import json, sys
from rich.console import Console
from danlu.demo import demo
demo(Console(), keep=True, commands=json.loads(sys.argv[1]))
"""


@pytest.fixture(autouse=True)
def home_of_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo makes its temporary home."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


def commands(tmp_path: Path, *told: str) -> dict[str, list[str]]:
    return {
        "server": [PYTHON, str(FOLDER / "stand_in_danlu.py"), f"notes={tmp_path}", *told],
        "worker": [PYTHON, str(FOLDER / "stand_in_half.py"), str(tmp_path), "worker"],
    }


def run(tmp_path: Path, *told: str) -> tuple[Outcome, list[str]]:
    console = Console(file=io.StringIO(), width=80, highlight=False)
    outcome = demo(console, commands=commands(tmp_path, *told))
    return outcome, console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_the_demo_from_nothing_to_twenty_images(tmp_path: Path, home_of_homes: Path) -> None:
    outcome, lines = run(tmp_path)

    assert (outcome.right, outcome.passed) == (20, True)
    assert "20 of 20 right; 18 are asked for." in lines
    assert sum(line.count("✓") for line in lines) == 20
    assert [line.split()[1] for line in lines if "✓" in line] == ["0", "5", "0", "5"]
    assert any("ckpt_1" in line and "best" in line for line in lines)
    assert any("http://127.0.0.1:8000/docs" in line for line in lines)
    assert list(home_of_homes.iterdir()) == []
    (worker,) = tmp_path.glob("worker.*.pid")
    with pytest.raises(ProcessLookupError):
        os.kill(int(worker.read_text()), 0)
    assert json.loads(json.dumps(outcome.as_dict()))["right"] == 20


@pytest.mark.parametrize(("wrong", "passed"), [(2, True), (3, False)])
def test_eighteen_of_twenty_are_enough(tmp_path: Path, wrong: int, passed: bool) -> None:
    outcome, lines = run(tmp_path, f"wrong={wrong}")

    assert (outcome.right, outcome.passed) == (20 - wrong, passed)
    assert any("✗ 1 0.987 is 0" in line for line in lines)


def test_an_image_that_cannot_be_read_counts_as_wrong(tmp_path: Path) -> None:
    outcome, lines = run(tmp_path, "unreadable=1")

    assert outcome.right == 19
    assert any("✗ not_an_image" in line for line in lines)


def test_a_job_that_fails_is_a_demo_that_fails(tmp_path: Path) -> None:
    outcome, lines = run(tmp_path, "state=failed")

    assert not outcome.passed
    assert "training_failed: As told." in lines


def test_a_server_that_cannot_start_shows_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], home_of_homes: Path
) -> None:
    with pytest.raises(DanluError, match="the server ended with code 1") as caught:
        run(tmp_path, "dying=1")

    assert caught.value.code == "no_server"
    assert "the stand-in dies as told" in capsys.readouterr().err
    assert list(home_of_homes.iterdir()) == []


def test_a_worker_that_does_not_come_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its time is up as soon as the server has answered, however long that takes to come up."""
    answered: list[Any] = []

    def ready(client: Client, ready: Any = Client.ready, **given: Any) -> Any:
        answered.append(ready(client, **given))
        return answered[-1]

    clock = SimpleNamespace(monotonic=lambda: math.inf if answered else 0.0, sleep=time.sleep)
    monkeypatch.setattr(Client, "ready", ready)
    monkeypatch.setattr(demonstration, "time", clock)

    with pytest.raises(DanluError, match="no worker has come up"):
        run(tmp_path, "worker=none")


def test_what_to_type_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / ".venv" / "bin" / "danlu"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    monkeypatch.setenv("PATH", "/nowhere")

    monkeypatch.chdir(tmp_path)
    _, lines = run(tmp_path)
    assert any(line.startswith("   .venv/bin/danlu serve ") for line in lines)

    monkeypatch.setenv("PATH", str(program.parent))
    _, lines = run(tmp_path)
    assert any(line.startswith("   danlu serve ") for line in lines)


def test_the_settings_of_a_user_are_none_of_the_demos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DANLU_URL", "http://lab:1")
    monkeypatch.setenv("DANLU_DATABASE_URL", "postgresql://lab")

    assert run(tmp_path)[0].passed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_any_signal_leaves_nothing_behind(tmp_path: Path, home_of_homes: Path, number: int) -> None:
    arguments = [sys.executable, "-c", DEMO, json.dumps(commands(tmp_path))]
    environment: Any = {**os.environ, "TMPDIR": str(home_of_homes), "DANLU_X": "1"}
    kept = subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment, text=True)
    try:
        assert kept.stdout
        for line in kept.stdout:
            if "until you press Ctrl-C" in line:
                break
        (worker,) = tmp_path.glob("worker.*.pid")
        assert kept.poll() is None

        kept.send_signal(number)
        kept.communicate(timeout=30)
    finally:
        kept.kill()
        kept.communicate()

    assert kept.returncode != 0
    assert list(home_of_homes.iterdir()) == []
    deadline = time.monotonic() + 5
    while Path(f"/proc/{worker.read_text()}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
