"""SQLite databases as files: copied while others write, and looked at without leaving a trace.

Knows nothing of what is in them. Raises `sqlite3.Error` for a file that is no database or is
damaged, `OSError` for one that is missing or may not be read.
"""

import errno
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import make_url

# File format version numbers in the header: both are 2 in WAL mode (sqlite.org/fileformat.html).
_VERSIONS, _WAL = slice(18, 20), b"\2\2"


def path_of(url: str) -> Path | None:
    """The file of a SQLite database; None for any other database."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return None
    return Path(parsed.database)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The database as others use it now, for a look.

    Not even a reader's own files appear beside it: the folder may be somebody else's, or lie on a
    disk that cannot be written to.
    """
    how = "mode=ro&immutable=1" if _rests(path) else "mode=ro"
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)) as connection:
        yield connection


def faults(path: Path) -> list[str]:
    """What SQLite finds wrong with the file, at most 100 lines; none if it is whole."""
    with reading(path) as connection:
        found = [str(line) for (line,) in connection.execute("PRAGMA integrity_check")]
    return [] if found == ["ok"] else found


def strays(path: Path) -> dict[str, int]:
    """How many rows of each table belong to rows that are not there."""
    with reading(path) as connection:
        return dict(Counter(row[0] for row in connection.execute("PRAGMA foreign_key_check")))


def copy(path: Path, target: Path) -> None:
    """Copies the database as it is at one moment, while others write to it.

    The copy is safely on disk, in one file alone: it can be read where nothing can be written.
    """
    unfinished = target.with_name(f"{target.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    rested = _rests(path)
    with reading(path) as source, closing(sqlite3.connect(unfinished)) as copied, _disk_full():
        source.backup(copied)  # not a copy of the file: what is committed may still lie in the WAL
        copied.execute("PRAGMA journal_mode = DELETE")
    if rested and not _rests(path):  # somebody began to use it meanwhile
        copy(path, target)
        return
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(target)


@contextmanager
def _disk_full() -> Iterator[None]:
    """Tells a full disk from a damaged database."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error


def _rests(path: Path) -> bool:
    """Nobody has the database open. In WAL mode there is a -wal file as long as anybody has, and a
    reader would make it, unless SQLite is told that the file does not change.
    """
    with path.open("rb") as file:
        wal = file.read(_VERSIONS.stop)[_VERSIONS] == _WAL
    return wal and not path.with_name(f"{path.name}-wal").exists()
