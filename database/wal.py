"""The write-ahead log of a SQLite database, written back beside the work that fills it.

Knows nothing of what is in it. Database servers do the same by themselves.
"""

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from database import files

# A job writes 1 MB a minute or two. Each time the disk is waited for thrice, by this thread and by
# whoever writes next, and an idle disk is to have its rest.
EVERY_SECONDS = 30.0

log = logging.getLogger(__name__)


@contextmanager
def written_back(url: str, *, seconds: float | None = None) -> Iterator[None]:
    """Inside of the context a thread brings what lies in the log into the database's file, at once
    and then every `seconds`, usually 30: the log begins anew then and does not grow for ever.

    Nobody waits for that thread, not even who leaves: a disk that stalls may hold it for long.
    """
    path = files.path_of(url)
    if path is None:
        yield
        return
    over = threading.Event()
    pause = EVERY_SECONDS if seconds is None else seconds
    threading.Thread(
        target=_again_and_again, args=(path, over, pause), name="write-ahead log", daemon=True
    ).start()
    try:
        yield
    finally:
        over.set()


def _again_and_again(path: Path, over: threading.Event, pause: float) -> None:
    while not over.is_set():
        try:
            _write_back(path)
        except sqlite3.Error as error:  # a full disk, say; a file that is gone others notice
            log.error("the log of the database could not be written back: %s", error)
        over.wait(pause)


def _write_back(path: Path) -> None:
    """As much as no reader still needs. No lock is taken that a writer waits for."""
    where = f"{path.absolute().as_uri()}?mode=rw"  # never makes a file
    with closing(sqlite3.connect(where, uri=True)) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
