import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models_store import checkpoints, folders
from models_store.manifest import Manifest


@pytest.fixture
def saved(tmp_path: Path, manifest: Callable[..., Manifest]) -> Path:
    return checkpoints.save(tmp_path, {"weight": torch.ones(3)}, manifest())


def test_names_in_the_store(tmp_path: Path, saved: Path) -> None:
    (tmp_path / f"{folders.UNFINISHED}other").mkdir()
    (tmp_path / "not_ours").mkdir()

    assert folders.finished(tmp_path) == [saved.name]
    assert folders.unfinished(tmp_path) == [f"{folders.UNFINISHED}other"]
    assert folders.finished(tmp_path / "none") == folders.unfinished(tmp_path / "none") == []


def test_a_checksum_is_that_of_the_whole_file(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(data)
    heard: list[int] = []

    assert folders.sha256(tmp_path / "file", heard.append) == hashlib.sha256(data).hexdigest()
    assert sum(heard) == len(data)
    assert len(heard) > 1


def test_a_whole_checkpoint_has_no_fault(saved: Path) -> None:
    heard: list[int] = []

    assert folders.fault(saved, read=heard.append) is None
    assert sum(heard) == (saved / checkpoints.WEIGHTS).stat().st_size
    assert folders.seals(saved) == {
        checkpoints.WEIGHTS: folders.sha256(saved / checkpoints.WEIGHTS)
    }


def spoil(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda folder: spoil(folder / "model.safetensors"), "is not what was saved"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "cannot be read"),
        (lambda folder: folder.rename(folder.with_name("gone")), "its files are missing"),
    ],
)
def test_faults(saved: Path, damage: Callable[[Path], object], fault: str) -> None:
    damage(saved)

    assert fault in str(folders.fault(saved))


def test_a_folder_under_another_name_is_a_fault(saved: Path) -> None:
    renamed = saved.rename(saved.with_name("ckpt_other"))

    assert f"is that of {saved.name}" in str(folders.fault(renamed))


def test_checksums_may_be_left_out(saved: Path) -> None:
    spoil(saved / checkpoints.WEIGHTS)

    assert folders.fault(saved, checksums=False) is None


def test_an_unreadable_manifest_seals_nothing(saved: Path) -> None:
    (saved / folders.MANIFEST).write_text("{")

    assert folders.seals(saved) == {}
