"""Whether the threads of a step on the CPU spin while they wait for each other, or sleep at once.

Knows nothing of networks and of who wants the cores.
"""

import threading

import torch

from workers import devices

_SHARED = 1 << 16  # numbers, more than one thread computes alone

_idle: "_IdleTeam | None" = None


def sleep_at_once(yes: bool) -> None:
    """For the whole process, until a moment after it is told otherwise. Nothing changes elsewhere
    than with libgomp, which PyTorch's wheels for Linux bring.
    """
    global _idle
    if yes and _idle is None:
        _idle = _IdleTeam()
    elif not yes and _idle is not None:
        _idle.end()
        _idle = None


class _IdleTeam:
    """Threads that do nothing. While a process has more OpenMP threads than CPUs, those of libgomp
    that wait do not spin GOMP_SPINCOUNT times, but, under OMP_WAIT_POLICY=passive, not at all:
    https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html. Nothing else can change that in
    a process that runs.
    """

    def __init__(self) -> None:
        self._ended = threading.Event()
        begun = threading.Event()
        arguments = (torch.get_num_threads(), begun)
        self._thread = threading.Thread(target=self._be, args=arguments, name="idle", daemon=True)
        self._thread.start()
        begun.wait()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _be(self, threads: int, begun: threading.Event) -> None:
        try:
            # Together with those that compute it is one more than there are CPUs.
            torch.set_num_threads(max(2, devices.cores() - threads + 2))
            torch.zeros(_SHARED, dtype=torch.uint8).add_(1)
            torch.set_num_threads(threads)  # what threads that begin later find
        finally:
            begun.set()
        self._ended.wait()
