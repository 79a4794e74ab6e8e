"""The throw-away process: a few copies of a file, some time, and no trace of it."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from models_store import quarantine
from models_store.manifest import Manifest
from problems import Problem


def test_weights_come_in_and_a_bomb_does_not(
    manifest: Callable[..., Manifest],
    network: Callable[[Manifest], nn.Module],
    tmp_path: Path,
) -> None:
    described, file = manifest(architecture="lenet5", job_id=None), tmp_path / "model.pth"
    torch.save(network(described).state_dict(), file)
    arrived = quarantine.receive(file, described, tmp_path / "store")
    assert arrived.left_out == []
    assert arrived.disk_bytes > 100_000

    torch.save({"0.weight": torch.zeros(6 * 10**8, dtype=torch.uint8)}, file)
    packed = tmp_path / "bomb.pth"
    with zipfile.ZipFile(file) as plain, zipfile.ZipFile(packed, "w", 8, compresslevel=1) as bomb:
        for one in plain.infolist():
            with plain.open(one) as source, bomb.open(one.filename, "w") as target:
                while piece := source.read(1 << 24):
                    target.write(piece)
    file.unlink()
    assert packed.stat().st_size < 20_000_000
    with pytest.raises(Problem) as caught:
        quarantine.receive(packed, described, tmp_path / "store")
    assert caught.value.code == "model_file_invalid"
    assert "memory" in caught.value.detail
    assert [path.name for path in (tmp_path / "store").iterdir()] == [described.id]


def test_one_that_takes_too_long_is_ended(
    manifest: Callable[..., Manifest], tmp_path: Path
) -> None:
    file = tmp_path / "model.pth"
    file.write_bytes(b"PK")
    with pytest.raises(Problem, match=r"longer than 0\.01 s"):
        quarantine.receive(file, manifest(), tmp_path, seconds=0.01)


def test_one_that_breaks_is_told_of(
    manifest: Callable[..., Manifest], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Problem, match="ended, as it does when memory runs out"):
        quarantine.receive(tmp_path / "missing", manifest(), tmp_path)
    assert "FileNotFoundError" in caplog.text
