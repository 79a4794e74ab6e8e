"""Files under a second name: in no time and without taking space, while the first may go away.

Two names share what is written into the file later. So this is for files that danlu replaces and
never writes to again; what grows, and what people write to, is copied.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

# Another file system; no more names for this file; a file system without such names, or a file
# that is somebody else's.
_NO_LINKS = {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_TRIES = 20
# Names of what is still being written, by us or by a download.
_PASSING = (".part", ".tmp", ".unfinished")


def link(source: Path, target: Path) -> None:
    """Links a file, or copies it where there can be no link. Raises OSError."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copy2(source, target)


def link_folder(source: Path, target: Path) -> None:
    """Links a folder that is replaced or removed as a whole: as it was at one moment.

    Raises FileNotFoundError when it is gone, and leaves nothing at `target` then.
    """
    for _ in range(_TRIES):
        shutil.rmtree(target, ignore_errors=True)
        before = _mark(source)
        try:
            for folder, files in _walk(source, frozenset()):
                inside = target / folder.relative_to(source)
                inside.mkdir(parents=True)
                for file in files:
                    link(file, inside / file.name)
            if _mark(source) == before:
                return
        except FileNotFoundError:
            shutil.rmtree(target, ignore_errors=True)
    raise OSError(errno.EBUSY, "It is replaced again and again", str(source))


def copy_folder(source: Path, target: Path, copied: Callable[[int], object]) -> None:
    """Copies all that is there now, following symbolic links; `copied` hears of each file's bytes.

    What is hidden or still being written is left out, and so is what goes away meanwhile.
    """
    for folder, files in _walk(source, frozenset()):
        inside = target / folder.relative_to(source)
        inside.mkdir(parents=True, exist_ok=True)
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                shutil.copy2(file, inside / file.name)
                copied(file.stat().st_size)


def weigh(folder: Path) -> tuple[int, int]:
    """Files that `copy_folder` would copy, and their bytes. Raises OSError."""
    sizes = [file.stat().st_size for _, files in _walk(folder, frozenset()) for file in files]
    return len(sizes), sum(sizes)


def own_bytes(folder: Path) -> int:
    """Bytes of the files in a folder that no other folder shares."""
    every = (file.stat() for _, files in _walk(folder, frozenset()) for file in files)
    return sum(status.st_size for status in every if status.st_nlink == 1)


def _walk(folder: Path, above: frozenset[Path]) -> Iterator[tuple[Path, list[Path]]]:
    """Each folder with its files; following links, but never in a circle."""
    entries = sorted(
        entry
        for entry in folder.iterdir()
        if not entry.name.startswith(".") and not entry.name.endswith(_PASSING)
    )
    yield folder, [entry for entry in entries if entry.is_file()]
    inside = above | {folder.resolve()}
    for entry in entries:
        if entry.is_dir() and entry.resolve() not in inside:
            yield from _walk(entry, inside)


def _mark(folder: Path) -> tuple[int, int, int]:
    status = folder.stat()
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns
