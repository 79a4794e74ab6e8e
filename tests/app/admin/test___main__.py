import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from app.admin import __main__ as program
from settings import Settings

Captured = pytest.CaptureFixture[str]
Here = Callable[..., int]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[Here]:
    """Runs a command on a home in this process."""
    handler = signal.getsignal(signal.SIGTERM)

    def here(*words: str, home: Path = settings.home) -> int:
        monkeypatch.setenv("DANLU_HOME", str(home))
        return program.main(words)

    yield here
    signal.signal(signal.SIGTERM, handler)


PROGRAM = (sys.executable, "-P", "-m", "app.admin")


def start(
    home: Path,
    *words: str,
    program: Sequence[str] = PROGRAM,
    env: Mapping[str, str] = os.environ,
    **more: Any,
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*program, *words],
        env={**env, "DANLU_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def test_there_and_back(used: Any, here: Here, tmp_path: Path, capsys: Captured) -> None:
    assert here("backup", str(tmp_path / "backup"), "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert here("restore", "--json", "--", str(tmp_path / "backup"), home=tmp_path / "new") == 0
    restored = json.loads(capsys.readouterr().out)

    assert made["checkpoints"] == restored["checkpoints"] == 4
    assert restored["queued"] == [used.running.job_id]
    assert restored["folder"] == str(tmp_path / "new")


def test_people_are_told(used: Any, here: Here, tmp_path: Path, capsys: Captured) -> None:
    here("backup", str(tmp_path / "backup"))
    here("restore", str(tmp_path / "backup"), home=tmp_path / "new")

    said = capsys.readouterr().out
    assert said.startswith("backup ")
    assert "danlu serve --home" in said


@pytest.mark.parametrize(("damage", "code"), [(False, 0), (True, 1)])
def test_the_doctor(used: Any, here: Here, capsys: Captured, damage: bool, code: int) -> None:
    if damage:
        (used.settings.checkpoints / used.running.best / "model.safetensors").unlink()

    found = here("doctor", "--url", "http://127.0.0.1:1", "--json", "--quick")

    document = json.loads(capsys.readouterr().out)
    assert found == code
    assert document["worst"] == ("problem" if damage else "warning")  # a job, and no worker
    assert document["home"] == str(used.settings.home)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["backup", "there"], 2, "no_home"),
        (["restore", "none"], 2, "no_backup"),
    ],
)
def test_refusals(here: Here, words: list[str], code: int, said: str, capsys: Captured) -> None:
    assert here(*words) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{said}: ")
    assert "Traceback" not in err


def test_a_newer_database_is_exit_code_4(
    used: Any, here: Here, tmp_path: Path, capsys: Captured
) -> None:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(used.settings.home / "danlu.sqlite3")) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()

    assert here("backup", str(tmp_path / "backup")) == 4
    assert here("doctor") == 4
    assert capsys.readouterr().err.count("database_newer: ") == 2


def test_a_wrong_setting(here: Here, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("DANLU_PORT", "many")

    assert here("doctor") == 2
    assert capsys.readouterr().err.startswith("DANLU_PORT: ")


def test_usage(here: Here, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as usage:
        here("heal")
    assert usage.value.code == 2
    capsys.readouterr()


def test_what_the_system_refuses(used: Any, here: Here, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "file").touch()

    assert here("backup", str(tmp_path / "file" / "backup")) == 1
    assert "Not a directory" in capsys.readouterr().err


def test_a_file_that_grows_too_large(used: Any, tmp_path: Path) -> None:
    """As on a disk that fills up: it is told, and nothing is left."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    # coverage.py's own file would grow too large as well.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    target = str(tmp_path / "backup")

    running = start(used.settings.home, "backup", target, env=env, preexec_fn=limit)
    out, err = running.communicate(timeout=60)

    assert (running.returncode, out) == (1, "")
    assert "Traceback" not in err
    assert list(tmp_path.glob("backup*")) == []


def small_disk() -> list[str]:
    """Words before a command that let it mount a file system of its own."""
    for words in (["unshare", "-m"], ["unshare", "-rm"]):
        try:
            subprocess.run([*words, "true"], check=True, capture_output=True, timeout=20)
        except (OSError, subprocess.SubprocessError):
            continue
        return words
    pytest.skip("no file system can be mounted here")


def test_a_full_disk(used: Any, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    script = (
        f"mount -t tmpfs -o size=5m none {folder} || exit 77; "
        f"{sys.executable} -P -m app.admin backup {folder}/backup; "
        f"code=$?; ls -A {folder} >&2; exit $code"
    )

    done = subprocess.run(
        [*small_disk(), "sh", "-c", script],
        env={**os.environ, "DANLU_HOME": str(used.settings.home)},
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip

    if done.returncode == 77:
        pytest.skip("no file system can be mounted here")
    assert done.returncode == 1
    assert done.stderr == (
        "disk_full: There is no space left: No space left on device.\n"
        "Free some, or take another disk.\n"
    )


STANDS_STILL = """
import sys
import time
from app.admin import __main__ as program
from app.admin import links

plain = links.copy_folder

def copy_folder(source, target, copied):
    def stand_still(size):
        print("copied", flush=True)
        time.sleep(100)

    plain(source, target, stand_still)

links.copy_folder = copy_folder
sys.exit(program.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"]
)
def test_a_signal_leaves_nothing_half_done(
    used: Any, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """It comes when one of two images is copied."""
    folder = used.settings.datasets / "pets"
    folder.mkdir(parents=True)
    for name in range(2):
        (folder / f"{name}.png").touch()
    target = tmp_path / "backup"
    program = [sys.executable, "-P", "-c", STANDS_STILL]

    running = start(used.settings.home, "backup", str(target), "--datasets", program=program)
    assert running.stdout is not None
    assert running.stdout.readline() == "copied\n"
    assert (tmp_path / "backup.unfinished" / "datasets" / "pets").is_dir()
    running.send_signal(number)
    running.communicate(timeout=60)

    assert (running.returncode, list(tmp_path.glob("backup*"))) == (code, [])


def test_torch_is_not_loaded(tmp_path: Path) -> None:
    """A broken one must not keep the doctor from saying so."""
    program = (
        "import sys; from app.admin import backup, doctor, report, restore; "
        "print({'torch', 'torchvision', 'fastapi'} & {*sys.modules})"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout == "set()\n"


@pytest.mark.skipif(shutil.which("unshare") is None, reason="there is no unshare")
def test_a_home_on_a_disk_that_cannot_be_written(used: Any, tmp_path: Path) -> None:
    home = used.settings.home
    script = (
        f"mount --bind {home} {home} && mount -o remount,ro,bind {home} || exit 77; "
        f"{sys.executable} -P -m app.admin backup {tmp_path}/backup >&2 || exit 1; "
        f"{sys.executable} -P -m app.admin doctor --url http://127.0.0.1:1 --quick --json"
    )

    done = subprocess.run(
        [*small_disk(), "sh", "-c", script],
        env={**os.environ, "DANLU_HOME": str(home)},
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip

    if done.returncode == 77:
        pytest.skip("no file system can be mounted here")
    assert (tmp_path / "backup" / "backup.json").is_file(), done.stderr
    found = {
        one["about"]: one["message"]
        for one in json.loads(done.stdout)["findings"]
        if one["level"] == "problem"
    }
    assert list(found) == ["home"]
    assert "on a file system that takes no writes" in found["home"]
