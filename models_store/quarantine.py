"""The throw-away process in which a foreign file of weights is read, and its limits.

Torch-free: a server starts it, waits, and hears what became of the file.
"""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from models_store import file_formats
from models_store.folders import UNFINISHED
from models_store.manifest import Manifest
from problems import Problem

SECONDS = 120.0
"""To read the file in, the process's own start included."""

# Beyond what torch itself takes: the file, its tensors, the copies that are written. Of a file in
# half precision these are seven, since danlu's weights are float32.
_COPIES = 8
_ROOM_BYTES = 512 * 2**20

log = logging.getLogger(__name__)


class Arrived(NamedTuple):
    """A checkpoint that was saved: its bytes on disk, and keys of the file that it has not."""

    disk_bytes: int
    left_out: list[str]


def receive(file: Path, manifest: Manifest, root: Path, *, seconds: float = SECONDS) -> Arrived:
    """Has the weights in `file` saved below `root` as the checkpoint that `manifest` describes.

    Raises `Problem` model_file_invalid, weights_misfit, and what `architectures.plan` raises.
    """
    file_formats.of(file)
    request = {
        "file": str(file),
        "root": str(root),
        "manifest": manifest.model_dump(mode="json"),
    }
    command = [sys.executable, "-P", "-m", "models_store.foreign"]
    try:
        done = subprocess.run(
            command, input=json.dumps(request).encode(), capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        _clear(root, manifest.id)
        raise _unreadable(f"Reading it took longer than {seconds:g} s.") from None
    if done.returncode != 0:
        _clear(root, manifest.id)
        log.error("reading weights ended with %d: %s", done.returncode, _end_of(done.stderr))
        raise _unreadable("The process that read it ended, as it does when memory runs out.")
    told: dict[str, Any] = json.loads(done.stdout)
    if problem := told.get("problem"):
        raise Problem(
            problem["code"],
            problem["message"],
            hint=problem["hint"],
            errors=problem["errors"],
        )
    return Arrived(told["disk_bytes"], told["left_out"])


def confine(file_bytes: int) -> None:
    """Takes from this process what it does not need to read such a file: memory beyond a few
    copies of it, processor time, and core dumps. On Windows it does nothing.
    """
    try:
        import resource
    except ImportError:
        return
    most = _size_now() + _COPIES * file_bytes + _ROOM_BYTES
    limits = {
        resource.RLIMIT_AS: most,
        resource.RLIMIT_CPU: int(SECONDS),
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        hard = resource.getrlimit(limit)[1]
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (wanted, wanted))


def _clear(root: Path, id_: str) -> None:
    """Removes what a process that was killed has saved: no row will know of it."""
    for name in (f"{UNFINISHED}{id_}", id_):
        shutil.rmtree(root / name, ignore_errors=True)


def _size_now() -> int:
    """Bytes of address space; torch has reserved much of it that it never touches."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 64 * 2**30
    import resource

    return pages * resource.getpagesize()


def _end_of(output: bytes) -> str:
    return output.decode(errors="replace")[-2000:]


def _unreadable(why: str) -> Problem:
    return Problem(
        "model_file_invalid", why, errors=[{"loc": ["body", "file"], "msg": "cannot be read"}]
    )
