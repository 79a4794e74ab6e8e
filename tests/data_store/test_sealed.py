"""Files of arrays that are written bit by bit, and whether they still are what was written."""

import os
import zlib
from pathlib import Path

import numpy as np
import pytest

from data_store import sealed
from data_store.sealed import Growing, Seal

WHOLE = np.random.default_rng(0).integers(0, 256, (700, 21, 40), np.uint8)


def written(path: Path, array: np.ndarray = WHOLE) -> Seal:
    growing = Growing(path, array)
    for start in range(0, len(array), 300):
        growing.add(array[start : start + 300])
    return growing.finish()


def fault(path: Path, seal: Seal, *, checksums: bool = True) -> str | None:
    return sealed.fault(path, seal, checksums=checksums, heard=lambda _: None)


@pytest.mark.parametrize("type", [np.uint8, np.int64, np.float32])
def test_numpy_reads_what_grew(tmp_path: Path, type: type) -> None:
    file = tmp_path / "a.npy"
    seal = written(file, WHOLE.astype(type))
    found = np.load(file)
    assert found.dtype == type
    np.testing.assert_array_equal(found, WHOLE)
    data = file.read_bytes()
    assert seal.bytes == len(data)
    assert seal.crc32 == zlib.crc32(data[seal.data_at :] + data[: seal.data_at])
    assert fault(file, seal) is None


def test_what_a_full_disk_does_not_take_is_dropped() -> None:
    growing = Growing(Path("/dev/full"), WHOLE[:1])
    with pytest.raises(OSError, match="No space left"):
        growing.finish()
    growing.drop()


def test_rows_of_a_larger_array_need_not_lie_together(tmp_path: Path) -> None:
    seal = written(tmp_path / "a.npy", WHOLE[:, ::2, 1:])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), WHOLE[:, ::2, 1:])
    assert fault(tmp_path / "a.npy", seal) is None


@pytest.mark.parametrize("at", [0, 60, 127, 128, 300_000, -1])
def test_one_bit_is_found(tmp_path: Path, at: int) -> None:
    file = tmp_path / "a.npy"
    seal = written(file)
    data = bytearray(file.read_bytes())
    data[at] ^= 128
    file.write_bytes(data)
    assert fault(file, seal) == "a.npy is not what was written"
    assert fault(file, seal, checksums=False) is None


@pytest.mark.parametrize("size", [0, 100, 588_127, 588_129])
def test_another_size_is_found_without_reading(tmp_path: Path, size: int) -> None:
    file = tmp_path / "a.npy"
    seal = written(file)
    os.truncate(file, size)
    assert fault(file, seal, checksums=False) == "a.npy has another size than was written"


def test_a_file_that_is_gone_or_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    seal = written(file)
    file.unlink()
    assert fault(file, seal) == "a.npy is missing"
    file.mkdir()
    same_size = Seal(file.stat().st_size, seal.data_at, seal.crc32)
    assert fault(file, same_size) == "a.npy cannot be read: Is a directory"


def test_one_that_is_given_up(tmp_path: Path) -> None:
    growing = Growing(tmp_path / "a.npy", WHOLE)
    growing.add(WHOLE)
    growing.drop()
    (tmp_path / "a.npy").unlink()
