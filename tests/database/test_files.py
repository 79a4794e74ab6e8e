import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from database import files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database in WAL mode with one row, that nobody has open."""
    path = tmp_path / "炉 100%?.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE pairs (a, b)")
        connection.execute("INSERT INTO pairs VALUES (0, 0)")
        connection.commit()
    return path


@pytest.fixture
def in_use(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO pairs VALUES (1, 1)")
        yield connection


def names(path: Path) -> set[str]:
    return {file.name for file in path.parent.iterdir()}


def count(connection: sqlite3.Connection) -> int:
    rows: list[tuple[int]] = connection.execute("SELECT count(*) FROM pairs").fetchall()
    return rows[0][0]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////home/danlu.sqlite3", Path("/home/danlu.sqlite3")),
        ("sqlite://", None),
        ("postgresql://user@host/danlu", None),
    ],
)
def test_the_file_of_a_database(url: str, path: Path | None) -> None:
    assert files.path_of(url) == path


def test_a_look_leaves_no_trace(path: Path) -> None:
    before = names(path)
    with files.reading(path) as connection:
        assert count(connection) == 1
        assert names(path) == before
    assert names(path) == before


def test_a_look_at_a_database_in_use_sees_what_is_committed(
    path: Path, in_use: sqlite3.Connection
) -> None:
    with files.reading(path) as connection:
        assert count(connection) == 2
        in_use.execute("INSERT INTO pairs VALUES (2, 2)")
        assert count(connection) == 3


def test_a_look_changes_nothing(path: Path, in_use: sqlite3.Connection) -> None:
    with files.reading(path) as connection, pytest.raises(sqlite3.OperationalError):
        connection.execute("DELETE FROM pairs")


def test_a_copy_is_one_file_that_can_be_read_where_nothing_can_be_written(
    path: Path, in_use: sqlite3.Connection, tmp_path: Path
) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    copy = folder / "copy.sqlite3"

    files.copy(path, copy)
    in_use.execute("INSERT INTO pairs VALUES (2, 2)")

    folder.chmod(0o500)
    with files.reading(copy) as connection:
        assert count(connection) == 2
        assert names(copy) == {"copy.sqlite3"}
    folder.chmod(0o700)


def test_copies_made_while_others_write_are_of_one_moment(path: Path, tmp_path: Path) -> None:
    done = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            number = 1
            while not done.is_set():
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("UPDATE pairs SET a = ?", (number,))
                connection.execute("INSERT INTO pairs VALUES (?, ?)", (number, number))
                connection.execute("UPDATE pairs SET b = ?", (number,))
                connection.execute("COMMIT")
                number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(20):
            files.copy(path, tmp_path / "copy.sqlite3")
            with files.reading(tmp_path / "copy.sqlite3") as connection:
                rows = connection.execute("SELECT DISTINCT a, b, count(*) FROM pairs").fetchall()
                [(a, b, rows_now)] = rows
                assert a == b == rows_now - 1
                assert files.faults(tmp_path / "copy.sqlite3") == []
    finally:
        done.set()
        writer.join()


def test_a_copy_that_was_cut_off_is_in_nobodys_way(path: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.sqlite3.unfinished").write_bytes(b"SQLite format 3\0 and no more")

    files.copy(path, tmp_path / "copy.sqlite3")

    assert files.faults(tmp_path / "copy.sqlite3") == []


def test_a_missing_database_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.reading(tmp_path / "none.sqlite3"):
        pass
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("kept", [0.3, 0.7])
def test_a_cut_off_database_is_noticed(path: Path, kept: float) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executemany(
            "INSERT INTO pairs VALUES (?, ?)", [(n, "x" * 99) for n in range(999)]
        )
        connection.commit()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])

    try:
        found = files.faults(path)
    except sqlite3.DatabaseError as error:
        found = [str(error)]

    assert found


def test_what_is_no_database_is_noticed(path: Path) -> None:
    path.write_bytes(b"not a database " * 1000)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        files.faults(path)


def test_rows_without_their_parents_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "family.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
        connection.execute("CREATE TABLE children (parent INTEGER REFERENCES parents (id))")
        connection.execute("INSERT INTO children VALUES (1), (2)")
        connection.execute("INSERT INTO parents VALUES (1)")
        connection.commit()

    assert files.strays(path) == {"children": 1}
