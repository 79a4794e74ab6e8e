"""A forkserver goes with its supervisor, whatever it does at that moment."""

import os
import signal
import subprocess
import sys
import time

import pytest

from workers import processes

STARTS_A_FORKSERVER = """
import multiprocessing, time
from multiprocessing import forkserver
from data_store import leash
leash.preload()
context = multiprocessing.get_context("forkserver")
child = context.Process(target=time.sleep, args=(0,))
child.start()
child.join()
print(forkserver._forkserver._forkserver_pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="there are no forkservers elsewhere")
def test_a_forkserver_that_cannot_notice_goes_too() -> None:
    command = [sys.executable, "-c", STARTS_A_FORKSERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        os.kill(pid, signal.SIGSTOP)  # as good as busy with an import
        supervisor.kill()
        deadline = time.monotonic() + 10
        while processes.is_running(pid):
            assert time.monotonic() < deadline
            time.sleep(0.05)
