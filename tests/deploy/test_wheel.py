"""The wheel: what pip installs elsewhere is whole, and works without this folder."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent.parent
PACKAGES = tomllib.loads((HOUSE / "pyproject.toml").read_text())["tool"]["hatch"]["build"][
    "targets"
]["wheel"]["packages"]

ELSEWHERE = """
import sys
from pathlib import Path
import app.main, danlu, workers.supervisor
from database import engine
from settings import Settings
folder = Path(sys.argv[1])
for package in (app.main, danlu, engine, workers.supervisor):
    assert Path(package.__file__).is_relative_to(folder), package.__file__
settings = Settings(home=folder / "home")
settings.home.mkdir()
engine.migrate(settings.database)
from app import error_pages
assert "home_gone" in error_pages.page("home_gone")
print(len(app.main.create_app(settings).openapi()["paths"]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=HOUSE, capture_output=True, timeout=60, check=True)
    [file] = folder.glob("*.whl")
    return file


def test_it_holds_every_file_of_every_room(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        about = next(name for name in held if name.endswith("entry_points.txt"))
        commands = archive.read(about).decode()

    wanted = {
        str(file.relative_to(HOUSE))
        for package in PACKAGES
        for file in (HOUSE / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert wanted - held == set()
    assert any("/migrations/versions/0001" in name for name in held)
    assert "danlu = danlu.cli:main" in commands


def test_it_holds_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        roots = {name.partition("/")[0] for name in archive.namelist()}

    assert {root for root in roots if not root.endswith(".dist-info")} == set(PACKAGES)


def test_it_works_where_it_was_unpacked(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    variables = {**os.environ, "PYTHONPATH": str(tmp_path)}

    done = subprocess.run(
        [sys.executable, "-P", "-c", ELSEWHERE, str(tmp_path)],
        env=variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
