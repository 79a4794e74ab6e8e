"""What each process of a `crew` does: it is told once what to do, gets lists of files, and answers.

Knows nothing of what is done. It ends with the process that started it.
"""

import ctypes
import os
import signal
import sys
from multiprocessing.connection import Connection

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Answers over the standard input, a socket, until nobody asks any more."""
    if sys.platform == "linux":  # it would hear of the end only between two lists
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    asked = Connection(os.dup(0))
    try:
        work = asked.recv()
        while True:
            asked.send(work(asked.recv()))
    except (EOFError, ConnectionError):
        sys.exit(0)
