"""What is freed stays for what comes next."""

import ctypes
import resource

import pytest
import torch

from workers import heap

GLIBC = hasattr(ctypes.CDLL(None), "mallopt")


@pytest.mark.skipif(not GLIBC, reason="another malloc")
def test_the_pages_of_a_large_tensor_are_asked_for_once() -> None:
    assert heap.keep()
    for _ in range(50):  # malloc keeps some small rests for itself, which lie between at first
        torch.empty(2**20).fill_(0)  # 4 MB

    before = asked_for()
    for _ in range(20):
        torch.empty(2**20).fill_(0)

    assert asked_for() - before < 2_000  # of 20,480


def asked_for() -> int:
    """Pages, by this thread."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt


def test_another_malloc_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())

    assert heap.keep() is False
