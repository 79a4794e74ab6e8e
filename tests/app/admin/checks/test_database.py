import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.admin.checks import database
from app.admin.findings import Level
from database.backups import Contents
from problems import Problem
from settings import Settings


def test_a_whole_database(used: Any) -> None:
    found, contents = database.examine(used.settings)

    assert [one.level for one in found] == [Level.ok]
    assert "1 running, 1 succeeded" in found[0].message
    assert contents is not None
    assert contents.checkpoint_ids == set(used.checkpoint_ids)


def test_none_yet(settings: Settings) -> None:
    found, contents = database.examine(settings)

    assert [one.level for one in found] == [Level.ok]
    assert contents == Contents()
    assert not settings.home.exists()


def test_one_that_is_gone(used: Any) -> None:
    (used.settings.home / "danlu.sqlite3").unlink()

    [found], contents = database.examine(used.settings)

    assert found.level is Level.problem
    assert "is gone" in found.message
    assert contents is None  # all that is there would be said to belong to nobody


@pytest.mark.parametrize("kept", [0.01, 0.2, 0.9])
def test_one_that_is_cut_off(used: Any, kept: float) -> None:
    path = used.settings.home / "danlu.sqlite3"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])

    [found], contents = database.examine(used.settings)

    assert found.level is Level.problem
    assert "danlu restore" in found.hint
    assert contents is None


def test_garbage(used: Any) -> None:
    (used.settings.home / "danlu.sqlite3").write_bytes(b"garbage " * 999)

    [found], contents = database.examine(used.settings)

    assert "file is not a database" in found.message
    assert contents is None


def test_a_folder_in_its_place(settings: Settings) -> None:
    (settings.home / "danlu.sqlite3").mkdir(parents=True)

    [found], _ = database.examine(settings)

    assert "Is a directory" in found.message


def test_rows_without_parents(used: Any) -> None:
    with closing(sqlite3.connect(used.settings.home / "danlu.sqlite3")) as connection:
        connection.execute("INSERT INTO job_tags VALUES ('a', 'job_none')")
        connection.commit()

    found, contents = database.examine(used.settings)

    assert [one.level for one in found] == [Level.warning, Level.ok]
    assert "1 in job_tags" in found[0].message
    assert contents is not None


def test_one_of_a_newer_danlu(used: Any) -> None:
    with closing(sqlite3.connect(used.settings.home / "danlu.sqlite3")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()

    with pytest.raises(Problem) as refused:
        database.examine(used.settings)
    assert refused.value.code == "database_newer"


def test_one_of_an_older_danlu(used: Any) -> None:
    with closing(sqlite3.connect(used.settings.home / "danlu.sqlite3")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
        connection.commit()

    [found], _ = database.examine(used.settings)

    assert found.level is Level.ok
    assert "brings it up to date" in found.message


def test_another_kind_of_database(settings: Settings) -> None:
    other = Settings(home=settings.home, database_url="postgresql://user:secret@host/danlu")

    [found], contents = database.examine(other)

    assert found.level is Level.ok
    assert "secret" not in found.message
    assert contents is None


def test_looking_leaves_no_trace(used: Any, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(used.settings.home, copy)
    before = sorted(path.name for path in copy.iterdir())

    database.examine(Settings(home=copy))

    assert sorted(path.name for path in copy.iterdir()) == before
