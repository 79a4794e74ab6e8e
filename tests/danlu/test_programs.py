import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest
from typer.testing import CliRunner

from danlu import cli, demo, serve

STAND_IN = Path(__file__).with_name("stand_in_half.py")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["serve", "--port", "70000"], 2, "65535"),
        (["serve", "--host", "no.such.host.invalid"], 2, "is no address"),
        (["serve", "--root-path", "danlu"], 2, "looks like /danlu"),
        (["serve", "--home", "/dev/null/home"], 2, "cannot be made"),
        (["worker", "--home", "/dev/null/home"], 2, "cannot be made"),
    ],
)
def test_what_cannot_be_served(words: list[str], code: int, message: str, tmp_path: Path) -> None:
    home = {"DANLU_HOME": str(tmp_path)}

    found = CliRunner().invoke(cli.app, words, env=home)

    assert found.exit_code == code
    assert message in found.stderr
    assert found.stdout == ""


def test_a_taken_port_is_exit_code_3(tmp_path: Path) -> None:
    with serve.listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        words = ["serve", "--port", port, "--home", str(tmp_path)]
        found = CliRunner().invoke(cli.app, words)

    assert found.exit_code == 3
    assert f"Port {port} of 127.0.0.1 cannot be used" in found.stderr


RUN = """
import sys
from danlu import cli, serve
stand_in, folder, *words = sys.argv[1:]
serve.COMMANDS = {n: [sys.executable, stand_in, folder, n] for n in ("server", "worker")}
cli.app(words)
"""


def start(
    tmp_path: Path, *words: str, stderr: IO[str] | None = None, **variables: str
) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-c", RUN, str(STAND_IN), str(tmp_path), *words]
    home = {"DANLU_HOME": str(tmp_path / "home"), "DANLU_PORT": "0"}
    environment: Any = {**os.environ, **home, **variables}
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=stderr, env=environment, text=True
    )


@pytest.mark.parametrize(
    ("words", "halves"),
    [
        (["serve"], {"server", "worker"}),
        (["serve", "--no-worker"], {"server"}),
        (["serve", "--host", "0.0.0.0", "--no-auth"], {"server", "worker"}),
        (["serve", "--host", "0.0.0.0"], {"server", "worker"}),
        (["worker"], {"worker"}),
    ],
)
def test_halves_are_started_and_the_address_is_printed(
    tmp_path: Path, words: list[str], halves: set[str]
) -> None:
    running = start(tmp_path, *words, "--json")
    assert running.stdout
    said = json.loads(running.stdout.readline())
    while {file.name.partition(".")[0] for file in tmp_path.glob("*.pid")} != halves:
        assert running.poll() is None

    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)

    assert running.returncode == 0
    assert said["home"] == str(tmp_path / "home")
    assert (said["url"] is None) == (words == ["worker"])
    assert (said["key"] is None) == (words != ["serve", "--host", "0.0.0.0"])


@pytest.mark.parametrize(
    ("words", "variables"),
    [(["--root-path", "/lab/danlu"], {}), ([], {"DANLU_ROOT_PATH": "/lab/danlu"})],
)
def test_the_path_that_a_proxy_puts_in_front(
    tmp_path: Path, words: list[str], variables: dict[str, str]
) -> None:
    running = start(tmp_path, "serve", "--no-worker", "--json", *words, **variables)
    assert running.stdout
    running.stdout.readline()
    while not list(tmp_path.glob("server.*.pid")):
        assert running.poll() is None

    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)

    [file] = tmp_path.glob("server.*.json")
    assert json.loads(file.read_text())["DANLU_ROOT_PATH"] == "/lab/danlu"


def test_people_are_told_where_to_go(tmp_path: Path) -> None:
    running = start(tmp_path, "serve")
    assert running.stdout
    home, address = running.stdout.readline(), running.stdout.readline()

    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)

    assert home == f"home    {tmp_path / 'home'}\n"
    assert address.startswith("danlu   http://127.0.0.1:")
    assert address.endswith("/docs)\n")


# Elsewhere there is no file that takes nothing; what is tested is the same on any system.
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_what_cannot_be_told_ends_nothing(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        running = start(tmp_path, "serve", stderr=full)
    while not (first := list(tmp_path.glob("worker.*.pid"))):
        assert running.poll() is None

    os.kill(int(first[0].read_text()), signal.SIGKILL)

    while len(list(tmp_path.glob("worker.*.pid"))) < 2:
        assert running.poll() is None
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)
    assert running.returncode == 0


def test_people_are_shown_the_key_that_was_made(tmp_path: Path) -> None:
    running = start(tmp_path, "serve", DANLU_HOST="0.0.0.0")
    assert running.stdout
    _, address, how = (running.stdout.readline() for _ in range(3))

    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)

    url, _, key = address.removeprefix("danlu   ").strip().partition("/?key=")
    assert url.startswith("http://")
    assert len(key) >= 32
    assert f"export DANLU_API_KEY={key})" in how


def test_people_are_not_shown_a_key_of_their_own(tmp_path: Path) -> None:
    running = start(tmp_path, "serve", DANLU_API_KEY="hush")
    assert running.stdout
    _, address = running.stdout.readline(), running.stdout.readline()

    running.send_signal(signal.SIGINT)
    rest, _ = running.communicate(timeout=30)

    assert "asks for the key" in address
    assert "hush" not in address + rest


@pytest.mark.parametrize("variables", [{"DANLU_NO_AUTH": "1"}, {"DANLU_API_KEY_FILE": "/dev/null"}])
def test_a_key_that_cannot_be_used(tmp_path: Path, variables: dict[str, str]) -> None:
    given = {"DANLU_HOME": str(tmp_path), "DANLU_API_KEY": "hush", **variables}

    found = CliRunner().invoke(cli.app, ["serve", "--port", "0"], env=given)

    assert found.exit_code == 2
    assert "key_unusable" in found.stderr
    assert "hush" not in found.output


@pytest.mark.parametrize(("right", "code"), [(18, 0), (17, 1)])
def test_the_exit_code_of_the_demo(
    monkeypatch: pytest.MonkeyPatch, made: Any, right: int, code: int
) -> None:
    predictions: Any = [{"label": "7" if i < right else "1"} for i in range(20)]
    outcome = demo.Outcome(made.job(state="succeeded"), ["7"] * 20, predictions)
    monkeypatch.setattr(demo, "demo", lambda console, *, keep: outcome)

    found = CliRunner().invoke(cli.app, ["demo", "--json"])

    assert found.exit_code == code
    assert json.loads(found.stdout)["right"] == right


def test_a_demo_that_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(console: Any, *, keep: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "demo", interrupted)

    assert CliRunner().invoke(cli.app, ["demo"]).exit_code == 130
