"""What a supervisor asks once, in a process that ends at once: asking CUDA makes it unfit to fork.

Imports no more than it needs: without a forkserver that is paid for each time.
"""

import os
from multiprocessing.connection import Connection
from pathlib import Path

from database.checkpoints import Known
from models_store import checkpoints as store
from workers import devices


def probe(checkpoints: Path, known: Known, channel: Connection) -> None:
    """Sends the devices and cores of this machine and the pid of the forkserver, then removes
    checkpoint folders that crashes left, by what is `known`: the store needs torch.
    """
    channel.send((devices.found(), devices.cores(), os.getppid()))
    store.sweep(checkpoints, known.ids, epochs=known.epochs)
