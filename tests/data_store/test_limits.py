"""How much an archive may become."""

import errno
from pathlib import Path

import pytest

from data_store import limits
from data_store.limits import Room
from problems import Problem

MB = 1_000_000


@pytest.mark.parametrize(
    ("unpacked", "packed"), [(64 * MB, 1), (65 * MB, 65 * MB // 200 + 1), (10**12, 10**12)]
)
def test_what_images_can_be_is_taken(unpacked: int, packed: int) -> None:
    limits.check_ratio(unpacked, packed)


@pytest.mark.parametrize(("unpacked", "packed"), [(65 * MB, 65_000), (10**10, 10**7), (65 * MB, 0)])
def test_what_only_bombs_become_is_not(unpacked: int, packed: int) -> None:
    with pytest.raises(Problem) as caught:
        limits.check_ratio(unpacked, packed)
    assert caught.value.code == "archive_too_large"


def test_one_file_may_be_less() -> None:
    limits.check_entry(16 * MB, 1)
    with pytest.raises(Problem):
        limits.check_entry(17 * MB, 17_000)


def test_some_of_the_disk_stays_free(tmp_path: Path) -> None:
    free = [1000 * MB]
    room = Room(tmp_path, lambda _: free[0])
    room.need(900 * MB)
    with pytest.raises(Problem) as caught:
        room.need(901 * MB)
    assert caught.value.code == "disk_full"
    assert "1,000,000,000 are free" in caught.value.detail
    free[0] = 99 * MB
    for _ in range(6):
        room.written(10 * MB)  # not looked at each time
    with pytest.raises(Problem):
        room.written(10 * MB)


def test_the_disk_is_a_real_one(tmp_path: Path) -> None:
    with pytest.raises(Problem):
        Room(tmp_path).need(10**18)


def test_systems_say_that_a_disk_is_full() -> None:
    assert limits.is_full(OSError(errno.ENOSPC, "No space left on device"))
    assert limits.is_full(OSError(errno.EDQUOT, "Quota exceeded"))
    assert not limits.is_full(OSError(errno.EACCES, "Permission denied"))
    assert not limits.is_full(ValueError())
