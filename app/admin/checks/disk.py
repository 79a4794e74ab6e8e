"""Where the home and the data sets lie: may they be written, is there space, what disk is it."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from app.admin import screen
from app.admin.findings import Finding, fine, problem, warning
from settings import Settings

_LITTLE_BYTES, _LITTLE_SHARE = 1_000_000_000, 0.05
_NOTHING_BYTES = 50_000_000
_MOUNTS = Path("/proc/self/mountinfo")
# SQLite's locks and its shared memory do not work between machines.
_NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "beegfs", "gpfs"),
    *("glusterfs", "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "fuse.ceph"),
}


def examine(settings: Settings) -> Iterator[Finding]:
    """The home and, if they lie elsewhere, the data sets."""
    home = settings.home
    if not home.exists():
        yield fine("home", f"{home} is not there yet; danlu serve makes it.")
    elif not home.is_dir():
        yield problem("home", f"{home} is no folder.", "Choose another with --home.")
        return
    else:
        yield _writable(home)
    yield from _network(settings)
    yield _space("home", home)
    if not settings.datasets.is_relative_to(home):
        yield _space("datasets", settings.datasets)


def _writable(home: Path) -> Finding:
    if _is_read_only(home):
        hint = "Mount it for writing. The system mounts a disk so that has failed: see dmesg."
        return problem("home", f"{home} is on a file system that takes no writes.", hint)
    closed = [
        path
        for path in (home, *sorted(home.glob("*")))
        if not os.access(path, os.R_OK | os.W_OK)
        or (path.is_dir() and not os.access(path, os.X_OK))
    ]
    if closed:
        hint = "Run danlu as the user that owns it, or give it to this one: chown -R."
        return problem("home", f"{closed[0]} cannot be read and written by this user.", hint)
    return fine("home", f"{home} can be read and written.")


def _is_read_only(home: Path) -> bool:
    """Tried with a file that never has a name: of a disk that has just failed, permissions and the
    list of mounts still say that it may be written.
    """
    try:
        with tempfile.TemporaryFile(dir=home):
            return False
    except OSError as error:
        return error.errno == errno.EROFS


def _space(about: str, path: Path) -> Finding:
    there = next(each for each in (path, *path.parents) if each.exists())
    usage = shutil.disk_usage(there)
    said = f"{screen.size(usage.free)} of {screen.size(usage.total)} are free for {path}."
    hint = "Free some: fewer checkpoints (danlu checkpoints), or cache/ while danlu is stopped."
    if usage.free < _NOTHING_BYTES:
        return problem(about, said, hint)
    if usage.free < max(_LITTLE_BYTES, _LITTLE_SHARE * usage.total):
        return warning(about, said, hint)
    return fine(about, said)


def _network(settings: Settings) -> Iterator[Finding]:
    kind = file_system(settings.home, _MOUNTS.read_text()) if _MOUNTS.exists() else ""
    if kind in _NETWORK and settings.database_url is None:
        yield warning(
            "home",
            f"{settings.home} is on a network file system ({kind}).",
            "SQLite can be damaged there when two machines use it: keep the home on a local disk.",
        )


def file_system(path: Path, mounts: str) -> str:
    """The kind of the file system that `path` lies on, by proc(5)'s mountinfo; empty: unknown."""
    real, found = path.resolve(), ("", "")
    for line in mounts.splitlines():
        mounted, _, kind = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), mounted.split()[4])
        # Of two on one point the later one lies above.
        if real.is_relative_to(point) and len(point) >= len(found[0]):
            found = point, kind.split()[0]
    return found[1]
