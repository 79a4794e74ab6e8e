"""What each process of a `crew` does: it is told once what to do, gets lists of files, and answers.

Knows nothing of what is done. It ends with the process that started it.
"""

import os
import sys
from multiprocessing.connection import Connection

from data_store import leash


def main() -> None:
    """Answers over the standard input, a socket, until nobody asks any more."""
    leash.tie()  # it would hear of the end only between two lists
    asked = Connection(os.dup(0))
    try:
        work = asked.recv()
        while True:
            asked.send(work(asked.recv()))
    except (EOFError, ConnectionError):
        sys.exit(0)
