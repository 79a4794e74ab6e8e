import os
import shutil
import socket
from pathlib import Path
from typing import Any

from app.admin import doctor
from app.admin.findings import Finding, Level
from data_store import arrays
from settings import Settings


def free_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def examine(
    settings: Settings, *, quick: bool = True, told: Any = lambda *_: None
) -> list[Finding]:
    return doctor.examine(settings, url=free_url(), quick=quick, told=told)


def problems(found: list[Finding]) -> list[str]:
    return [one.about for one in found if one.level is Level.problem]


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_a_used_home_is_looked_at_and_left_as_it_is(used: Any) -> None:
    settings = used.settings
    wanted: dict[str, Any] = {"size": (16, 16), "channels": 1, "progress": lambda *_: None}
    arrays.load("digits", root=settings.datasets, cache=settings.cache, **wanted)
    before = snapshot(used.settings.home)
    heard: set[str] = set()

    found = examine(used.settings, quick=False, told=lambda what, _done, _total: heard.add(what))

    assert problems(found) == []
    assert {one.about for one in found} >= {
        *("home", "database", "checkpoints", "worker", "datasets", "cache", "server", "packages"),
        "devices",
    }
    assert heard == {"checksums", "data sets", "decoded images", "devices"}
    assert snapshot(used.settings.home) == before


def test_a_home_that_is_not_there_is_not_made(settings: Settings) -> None:
    assert problems(examine(settings)) == []
    assert not settings.home.exists()


def test_a_damaged_database_keeps_nothing_else_from_being_looked_at(used: Any) -> None:
    (used.settings.home / "danlu.sqlite3").write_bytes(b"garbage " * 999)

    found = examine(used.settings)

    assert problems(found) == ["database"]
    assert {one.about for one in found} >= {"home", "server", "packages"}


def test_what_cannot_be_looked_at_is_a_finding(used: Any) -> None:
    weights = used.settings.checkpoints / used.running.best / "manifest.json"
    weights.unlink()
    weights.mkdir()
    shutil.rmtree(used.settings.datasets, ignore_errors=True)

    assert problems(examine(used.settings)) == ["checkpoints"]


def test_damaged_decoded_images_are_a_warning(used: Any) -> None:
    settings = used.settings
    wanted: dict[str, Any] = {"size": (16, 16), "channels": 1, "progress": lambda *_: None}
    arrays.load("digits", root=settings.datasets, cache=settings.cache, **wanted)
    [place] = settings.cache.iterdir()
    os.truncate(place / "train.images.npy", 1000)
    before = snapshot(settings.home)

    found = examine(settings)

    [cache] = [one for one in found if one.about == "cache"]
    assert (cache.level, problems(found)) == (Level.warning, [])
    assert cache.message.startswith("digits at 16x16x1: ")
    assert snapshot(settings.home) == before


def test_a_port_of_its_own_is_looked_at_too(settings: Settings) -> None:
    other = Settings(home=settings.home, port=int(free_url().rpartition(":")[2]))

    asked = [one.message for one in examine(other) if one.about == "server"]

    assert len(asked) == 2
    assert f":{other.port};" in asked[1]
