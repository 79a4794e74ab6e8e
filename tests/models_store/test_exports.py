"""Exports beside a manifest: there whole, or not there."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from models_store import checkpoints, exports, folders, report
from models_store.exports import Check, Export
from models_store.manifest import Manifest
from problems import Problem

_CHECK = Check(images=9, of="noise", largest_difference=1e-7, largest_logit=2.0, tolerance=1e-4)


def _record(folder: Path, **given: Any) -> Export:
    return Export.model_validate(
        {
            "format": "onnx",
            "checkpoint_id": folder.name,
            "job_id": "job_1",
            "file": "model.onnx",
            "bytes": 3,
            "temperature": 1.0,
            "check": _CHECK,
            "made_with": {},
            "created_at": datetime(2026, 1, 1, tzinfo=UTC),
            **given,
        }
    )


def _publish(root: Path, folder: Path, **given: Any) -> Export:
    record = _record(folder, **given)
    with exports.unfinished(root, "job_1", 1) as draft:
        made = draft / "model.onnx"
        made.write_bytes(b"abc")
        exports.publish(folder, made, record)
    return record


@pytest.fixture
def folder(manifest: Callable[..., Manifest], saved: Callable[[Manifest], Path]) -> Path:
    return saved(manifest())


def test_what_was_published_is_found(folder: Path) -> None:
    assert exports.find(folder, "onnx") is None
    record = _publish(folder.parent, folder)
    assert exports.find(folder, "onnx") == record
    assert exports.find(folder, "bundle") is None
    assert exports.path(folder, "onnx").read_bytes() == b"abc"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # no draft is left
    assert folders.fault(folder) is None  # the manifest seals as before
    assert checkpoints.disk_bytes(folder) > 3
    checkpoints.remove(folder)
    assert list(folder.parent.iterdir()) == []


def test_two_attempts_do_not_share_a_draft(tmp_path: Path) -> None:
    with exports.unfinished(tmp_path, "job_1", 2) as later:
        with exports.unfinished(tmp_path, "job_1", 1) as earlier:
            assert earlier.is_dir()
        assert later.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_half_of_one_is_none(folder: Path) -> None:
    _publish(folder.parent, folder)
    exports.path(folder, "onnx").unlink()
    assert exports.find(folder, "onnx") is None
    _publish(folder.parent, folder)
    (folder / exports.FOLDER / "onnx.json").write_text("{")
    assert exports.find(folder, "onnx") is None


def test_one_of_before_the_checkpoint_was_judged_is_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(folder.parent, folder)
    (folder / report.EVALUATION).write_text('{"calibration": {"temperature": 1.7}}')
    assert exports.find(folder, "onnx") is None
    _publish(folder.parent, folder, temperature=1.7)
    assert exports.find(folder, "onnx") is not None


def test_of_a_checkpoint_that_is_gone_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(Problem) as caught:
        _publish(tmp_path, tmp_path / "ckpt_gone")
    assert caught.value.code == "checkpoint_not_found"
    assert list(tmp_path.iterdir()) == []
