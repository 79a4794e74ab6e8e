import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from database import wal

NAME = "write-ahead log"
Threads = Callable[[str], list[threading.Thread]]


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A database whose only row lies in its log, as long as this test lasts."""
    path = tmp_path / "炉 100%.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("CREATE TABLE rows AS SELECT zeroblob(100000)")
        yield path


def wait_for(path: Path, size: int) -> None:
    deadline = time.monotonic() + 60
    while path.stat().st_size < size:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_log_is_written_back_at_once_and_again(path: Path) -> None:
    assert path.stat().st_size < 100_000

    with wal.written_back(f"sqlite:///{path}", seconds=0.05):
        wait_for(path, 100_000)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.execute("INSERT INTO rows SELECT zeroblob(200000)")
            wait_for(path, 300_000)  # which all of the first lot is not


def test_it_ends_with_its_context(path: Path, threads: Threads) -> None:
    with wal.written_back(f"sqlite:///{path}", seconds=60):
        [thread] = threads(NAME)

    thread.join(30)
    assert not thread.is_alive()


def test_nobody_waits_for_a_disk_that_stalls(
    path: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalls, goes_on = threading.Event(), threading.Event()

    def connect(*_: object, **__: object) -> None:
        stalls.set()
        goes_on.wait()
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(sqlite3, "connect", connect)
    with wal.written_back(f"sqlite:///{path}"):
        assert stalls.wait(30)
        [thread] = threads(NAME)

    assert thread.is_alive()
    goes_on.set()
    thread.join(30)
    assert not thread.is_alive()


def test_a_file_that_is_gone_is_not_made_and_looked_for_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "danlu.sqlite3"

    with wal.written_back(f"sqlite:///{path}", seconds=0.02):
        deadline = time.monotonic() + 60
        while caplog.text.count("unable to open database file") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    assert not path.exists()


def test_database_servers_do_that_by_themselves(threads: Threads) -> None:
    with wal.written_back("postgresql://host/danlu"):
        assert threads(NAME) == []
