"""Files under a second name: in no time and without taking space, while the first may go away.

Two names share what is written into the file later. So this is for files that danlu replaces and
never writes to again; what grows, and what people write to, is copied.
"""

import contextlib
import ctypes
import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

# Another file system; no more names for this file; a file system without such names, or a file
# that is somebody else's; a file that has lost its name since it was opened.
_NO_LINKS = {
    *(errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS),
    errno.ENOENT,
}
_TRIES = 20
# Names of what is still being written, by us or by a download.
_PASSING = (".part", ".tmp", ".unfinished")
_KEPT = {".danlu"}  # what an import knows of its data set


def link(source: Path, target: Path) -> None:
    """Links a file, or copies it where there can be no link. Raises OSError."""
    with source.open("rb") as file:
        _link(file, source, target)


def link_folder(source: Path, target: Path) -> None:
    """Links a folder whose files are replaced or removed meanwhile: as it was at one moment.

    Raises FileNotFoundError when it is gone, and makes nothing then.
    """
    for _ in range(_TRIES):
        before = _mark(source)
        with contextlib.ExitStack() as opened:
            try:
                files = [
                    (folder / file.name, opened.enter_context(file.open("rb")))
                    for folder, files in _walk(source, frozenset())
                    for file in files
                ]
                changed = _mark(source) != before
            except FileNotFoundError:
                continue
            if not changed:  # what is open stays as it is, whatever happens to its name
                _link_all(files, source, target)
                return
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


def to_disk(folder: Path) -> None:
    """Returns when what was written there will outlive a power cut."""
    # Linux has a sync of one file system, which does not wait for a network disk that is dead.
    syncfs = getattr(ctypes.CDLL(None), "syncfs", None)
    if syncfs is None:
        os.sync()
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        syncfs(opened)
    finally:
        os.close(opened)


def weigh(folder: Path) -> tuple[int, int]:
    """Files that `copy_folder` would copy, and their bytes."""
    sizes = []
    for _, files in _walk(folder, frozenset()):
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                sizes.append(file.stat().st_size)
    return len(sizes), sum(sizes)


def shared_bytes(folder: Path) -> int:
    """Bytes of the files in a folder that other folders have too."""
    every = (file.stat() for _, files in _walk(folder, frozenset()) for file in files)
    return sum(status.st_size for status in every if status.st_nlink > 1)


def _link_all(files: Sequence[tuple[Path, IO[bytes]]], source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path, file in files:
        inside = target / path.relative_to(source)
        inside.parent.mkdir(parents=True, exist_ok=True)
        _link(file, path, inside)


def _link(file: IO[bytes], path: Path, target: Path) -> None:
    """Gives the open `file`, whose name is or was `path`, the second name `target`."""
    status = os.fstat(file.fileno())
    try:
        os.link(path, target)
        if os.path.samestat(status, target.stat()):
            return
        target.unlink()
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    with target.open("xb") as copy:
        shutil.copyfileobj(file, copy)
    target.chmod(stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _walk(folder: Path, above: frozenset[Path]) -> Iterator[tuple[Path, list[Path]]]:
    """Each folder with its files; following links, but never in a circle."""
    entries = sorted(
        entry
        for entry in folder.iterdir()
        if (not entry.name.startswith(".") or entry.name in _KEPT)
        and not entry.name.endswith(_PASSING)
    )
    yield folder, [entry for entry in entries if entry.is_file()]
    inside = above | {folder.resolve()}
    for entry in entries:
        if entry.is_dir() and entry.resolve() not in inside:
            with contextlib.suppress(FileNotFoundError):  # it was removed just now
                yield from _walk(entry, inside)


def _mark(folder: Path) -> tuple[int, int, int]:
    status = folder.stat()
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns
