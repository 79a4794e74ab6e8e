import logging
from collections.abc import Callable

import pytest
import torch

from problems import Problem
from workers.room import Room, is_exhausted

CPU = torch.device("cpu")


def attempts(most: int, images: int) -> tuple[Callable[[int], int], list[int]]:
    """An attempt that fails above `most` images at once, and the parts that it was called for."""
    tried: list[int] = []

    def attempt(parts: int) -> int:
        tried.append(parts)
        if max(map(len, torch.arange(images).tensor_split(parts))) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore.")
        return parts

    return attempt, tried


def test_what_fits_is_computed_whole() -> None:
    attempt, tried = attempts(512, 512)
    heard: list[str] = []

    assert Room("trained on", CPU, on_less=heard.append).compute(512, attempt) == 1
    assert (tried, heard) == ([1], [])


def test_parts_are_halved_until_they_fit_and_stay_so(caplog: pytest.LogCaptureFixture) -> None:
    attempt, tried = attempts(130, 512)
    heard: list[str] = []
    room = Room("trained on", CPU, on_less=heard.append)

    with caplog.at_level(logging.WARNING):
        assert room.compute(512, attempt) == 4
    assert room.compute(512, attempt) == 4

    assert tried == [1, 2, 4, 4]
    assert heard == [
        "512 images at once do not fit into the memory of cpu: they are trained on in 4 parts."
    ]
    assert caplog.messages == ["CUDA out of memory. Tried to allocate 2 GiB."] * 2 + heard
    assert (room.parts(128), room.parts(129), room.parts(0)) == (1, 2, 1)


def test_no_part_is_smaller_than_the_least() -> None:
    room = Room("trained on", CPU, least=2)
    room.most = 2

    for images in range(2, 100):
        sizes = list(map(len, torch.arange(images).tensor_split(room.parts(images))))
        assert min(sizes) >= 2
        assert max(sizes) <= 3
        assert sum(sizes) == images


@pytest.mark.parametrize(
    ("least", "images", "said"),
    [
        (1, 9, "Not even 1 image at once can be trained on in the memory of cpu."),
        (2, 8, "Not even 2 images at once can be trained on in the memory of cpu."),
        (2, 7, "Not even 3 images at once can be trained on in the memory of cpu."),
        (1, 1, "Not even 1 image at once can be trained on in the memory of cpu."),
    ],
)
def test_what_never_fits_is_told(least: int, images: int, said: str) -> None:
    attempt, _ = attempts(0, images)

    with pytest.raises(Problem) as raised:
        Room("trained on", CPU, least=least).compute(images, attempt)

    assert (raised.value.code, raised.value.detail) == ("out_of_memory", said)
    assert "image_size" in raised.value.hint
    assert raised.value.__context__ is None  # which would hold what the attempt had made


def test_another_error_is_raised_at_once() -> None:
    tried = []

    def attempt(parts: int) -> None:
        tried.append(parts)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        Room("trained on", CPU).compute(8, attempt)
    assert tried == [1]


def test_nothing_of_a_failed_attempt_is_left_when_the_next_begins() -> None:
    living: list[object] = []

    class Large:
        def __del__(self) -> None:
            living.remove(id(self))

    def attempt(parts: int) -> int:
        assert not living
        large = Large()
        living.append(id(large))
        if parts < 4:
            raise MemoryError
        return parts

    assert Room("trained on", CPU).compute(8, attempt) == 4


@pytest.mark.parametrize(
    ("error", "exhausted"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("CUDA error: out of memory"), False),
        (OSError(12, "Cannot allocate memory"), True),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_errors_that_say_so_are_known(error: Exception, exhausted: bool) -> None:
    assert is_exhausted(error) is exhausted


def test_so_is_that_of_the_cpu() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(10**15)

    assert is_exhausted(raised.value)
