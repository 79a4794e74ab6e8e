"""Threads that wait sleep at once where they are told so; counted by the kernel."""

import subprocess
import sys

import pytest

from danlu import environment
from workers import devices

REGIONS = 200
# Threads that may spin forever never sleep, however busy the machine is, unless they are told to.
PROGRAM = f"""
import resource, threading, time
import torch
from workers import spins

numbers = torch.zeros(1 << 16)

def sleeps():
    numbers.add_(1)  # the team, if it is new
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    for _ in range({REGIONS}):
        numbers.add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before

torch.set_num_threads(2)
print(sleeps())
spins.sleep_at_once(True)
spins.sleep_at_once(True)
print(sleeps())
spins.sleep_at_once(False)
spins.sleep_at_once(False)
until = time.monotonic() + 30
while (again := sleeps()) > {REGIONS} / 10 and time.monotonic() < until:
    time.sleep(0.05)  # libgomp counts a thread until the system has ended it
print(again, threading.active_count(), torch.get_num_threads())
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="PyTorch's wheels bring libgomp, of which it is told, on Linux"
)
@pytest.mark.skipif(devices.cores() < 2, reason="libgomp never lets two threads spin on one CPU")
def test_threads_spin_or_sleep_as_told() -> None:
    variables = environment.variables()
    variables |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "100000000000"}
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=variables, check=True, capture_output=True, text=True
    ).stdout.split()
    spun, slept, again, threads, computing = map(int, told)
    assert spun < REGIONS / 10
    assert slept > REGIONS / 2
    assert again < REGIONS / 10
    assert (threads, computing) == (1, 2), "nothing is left of it"
