"""What a supervisor asks once, in a process that ends at once: asking CUDA makes it unfit to fork.

Imports no more than it needs: without a forkserver that is paid for each time.
"""

import os
from multiprocessing.connection import Connection
from pathlib import Path

from models_store import checkpoints as store
from workers import devices


def probe(checkpoints: Path, known: frozenset[str], channel: Connection) -> None:
    """Sends the devices and cores of this machine and the pid of the forkserver, then removes
    checkpoint folders that are none of the `known`: the store needs torch.
    """
    channel.send((devices.found(), devices.cores(), os.getppid()))
    store.sweep(checkpoints, known)
