"""Imported first by the forkserver: ties it to its supervisor.

It would notice that the supervisor is gone only after it has imported torch, which takes seconds.
Linux alone has forkservers here. Imported anywhere else, it does nothing.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h; a fork does not inherit it


def _tie() -> None:
    """This process is killed when its parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:  # it has ended already
        os._exit(1)


if sys.platform == "linux" and b"multiprocessing.forkserver" in (
    Path("/proc/self/cmdline").read_bytes()
):
    _tie()
