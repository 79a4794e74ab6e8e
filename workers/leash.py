"""Ties a process to its parent. Imported first by the forkserver, which it ties to its supervisor.

That would notice that the supervisor is gone only after it has imported torch, which takes seconds.
Linux alone has forkservers here. Imported anywhere else, it does nothing by itself.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h; a fork does not inherit it


def tie(parent: int | None = None) -> None:
    """This process is killed when its parent ends: on Linux, elsewhere nobody sees to that.

    Without the pid of the parent, one that had ended before is only noticed outside of containers.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent if parent is not None else os.getppid() == 1:  # it has ended already
        os._exit(1)


if sys.platform == "linux" and b"multiprocessing.forkserver" in (
    Path("/proc/self/cmdline").read_bytes()
):
    tie()
