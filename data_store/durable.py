"""Files that appear whole or not at all, and what killed processes leave behind.

Knows nothing of what is in them.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from time import time
from typing import IO, Any
from uuid import uuid4

_STALE_SECONDS = 3600
_TICK_SECONDS = 0.2


@contextmanager
def replacing(target: Path) -> Iterator[IO[bytes]]:
    """A file written beside `target` as `.part` that takes its place, safely on disk, at the end.

    Left by an exception, it is removed and `target` stays as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            yield file
            to_disk(file)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def to_disk(file: IO[Any]) -> None:
    """Returns when what was written will outlive a power cut."""
    file.flush()
    os.fsync(file.fileno())


def folder_to_disk(folder: Path) -> None:
    """The same for the names in a folder."""
    if os.name == "nt":  # folders cannot be opened there
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def everything_to_disk(tick: Callable[[], None]) -> None:
    """Returns when all that anybody wrote will outlive a power cut: to sync 60,000 files one by one
    takes minutes. `tick` is called at least once, several times a second, and may raise to leave.
    """
    if not hasattr(os, "sync"):  # Windows
        return
    syncing = Thread(target=os.sync, name="sync", daemon=True)
    syncing.start()
    while True:
        syncing.join(_TICK_SECONDS)
        tick()
        if not syncing.is_alive():
            return


def sweep(folder: Path, pattern: str) -> None:
    """Removes what matches and was not written to for an hour: its process was killed."""
    for path in folder.glob(pattern):
        try:
            inside = list(path.iterdir()) if path.is_dir() else []
            newest = max(each.stat().st_mtime for each in [path, *inside])
        except OSError:  # another process was faster
            continue
        if time() - newest < _STALE_SECONDS:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
