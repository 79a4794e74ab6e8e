import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

from app.admin.checks import disk
from app.admin.findings import Level
from settings import Settings

MOUNTS = r"""22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:26 / /mnt/nas\040share rw,relatime shared:5 - nfs4 nas:/share rw
31 30 0:27 / /mnt/nas\040share/fast rw - ext4 /dev/vdb rw
32 22 0:28 / /mnt/nas\040share rw - cifs //nas/share rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/danlu", "ext4"),
        ("/mnt/nas share/danlu", "cifs"),
        ("/mnt/nas share/fast/danlu", "ext4"),
        ("/mnt/nas share2", "ext4"),
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    assert disk.file_system(Path(path), MOUNTS) == kind


def test_no_mounts_are_no_answer() -> None:
    assert disk.file_system(Path("/home"), "") == ""


def test_a_home_that_can_be_used(settings: Settings) -> None:
    settings.home.mkdir()

    found = list(disk.examine(settings))

    assert "can be read and written" in found[0].message
    free = shutil.disk_usage(settings.home).free
    level = [one.level for one in found if "are free" in one.message]
    assert level == [Level.ok] or free < 20_000_000_000


def test_a_home_that_is_not_there_yet(settings: Settings) -> None:
    found = list(disk.examine(settings))

    assert (found[0].level, "danlu serve makes it" in found[0].message) == (Level.ok, True)
    assert "are free" in found[-1].message
    assert not settings.home.exists()


def test_a_home_that_is_a_file(settings: Settings) -> None:
    settings.home.touch()

    [found] = disk.examine(settings)

    assert (found.level, found.about) == (Level.problem, "home")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written(settings: Settings) -> None:
    settings.home.mkdir()
    database = settings.home / "danlu.sqlite3"
    database.touch()
    for path, mode in ((database, 0o400), (settings.home, 0o500)):
        path.chmod(mode)
        found = next(iter(disk.examine(settings)))
        assert found.level is Level.problem
        assert str(path) in found.message
    settings.home.chmod(0o700)


def test_a_disk_that_takes_no_writes_is_found_by_trying(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that failed a moment ago: `access` and the mounts have not heard of it."""

    def refuse(*, dir: Path) -> NoReturn:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(dir))

    settings.home.mkdir()
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)

    found = next(iter(disk.examine(settings)))

    assert (found.level, found.about) == (Level.problem, "home")
    assert "takes no writes" in found.message
    assert "dmesg" in found.hint


def test_looking_leaves_nothing(settings: Settings) -> None:
    settings.home.mkdir()
    list(disk.examine(settings))
    assert list(settings.home.iterdir()) == []


def test_data_sets_elsewhere_have_a_disk_of_their_own(settings: Settings, tmp_path: Path) -> None:
    elsewhere = Settings(home=settings.home, datasets_dir=tmp_path / "sets")

    assert [one.about for one in disk.examine(elsewhere)] == ["home", "home", "datasets"]
