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
    for _ in range(2):
        torch.zeros(2**24)  # 64 MB; the first one is asked for

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.zeros(2**24)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 5_000  # of 81,920


def test_another_malloc_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())

    assert heap.keep() is False
