"""How an inference process begins. Torch-free, so that the server that starts it need not wait."""

import gc
import logging
import os
import signal
import socket
import threading
from dataclasses import dataclass, replace
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Literal, Self

from app import triton

MOST = 64
"""Images that go through a network together, at most."""
OBJECT_BYTES = 1_300_000
"""What a model takes beside its weights: layers, classes, manifest, and gaps that loading leaves in
the heap. 1.1 MB were measured where a hundred small ones took turns (benchmarks/serving/hundred).
"""
# Behind the server, which hands on what they are to do and answers whoever asks for its health;
# before jobs that train, which have 10.
_NICE = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """What a process needs to know when it starts."""

    root: Path  # folder of the checkpoints
    device: str
    precision: Literal["auto", "fp32", "bf16"]
    threads: int  # that one network computes with, while others do too
    cores: int
    log_level: str
    gpu_share: float = 1.0  # of its memory, that this process may take

    def on(self, device: str) -> Self:
        """The same on another device."""
        return replace(self, device=device)


def work(channel: socket.socket, plan: Plan) -> None:
    """The process: answers until the server hangs up."""
    # What was imported before the fork is shared until somebody writes there, as a collection does
    # to every object it looks at.
    gc.freeze()
    os.nice(_NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server drains first, and hangs up then
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logging.basicConfig(level=plan.log_level.upper(), format="%(levelname)s %(message)s")
    _end_with_server()
    triton.leave_out()
    from app.inference import process  # torch, where it was not imported before the fork

    process.run(channel, plan)


def _end_with_server() -> None:
    """Also while an image is decoded that never ends."""

    def watch() -> None:
        server = parent_process()
        if server is not None:
            connection.wait([server.sentinel])
            os._exit(0)

    threading.Thread(target=watch, name="server", daemon=True).start()
