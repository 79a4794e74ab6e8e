"""Ties a process to its parent, and a forkserver to who has it: they are killed when that ends.

A forkserver would notice by itself only after it has imported torch, which takes seconds. Linux
alone has forkservers here. Knows nothing of what the processes do.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h; a fork does not inherit it
_OWNER = "FORKSERVER_LEASHED_TO"  # a variable; DANLU_ would make it a setting


def tie(parent: int | None = None) -> None:
    """This process is killed when its parent ends, or the thread of it that has started this one:
    on Linux, elsewhere nobody sees to that. With the pid of the parent also where it has ended
    before.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def preload(*modules: str) -> None:
    """The forkserver that this thread starts next imports these, and ends with it."""
    os.environ[_OWNER] = str(os.getpid())  # noqa: TID251 - for the forkserver, not a setting
    multiprocessing.set_forkserver_preload([__name__, *modules])


if sys.platform == "linux" and b"multiprocessing.forkserver" in (
    Path("/proc/self/cmdline").read_bytes()
):
    if owner := os.environ.get(_OWNER):  # noqa: TID251 - set by `preload`, not a setting
        tie(int(owner))
