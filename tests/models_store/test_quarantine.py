"""The throw-away process: a few copies of a file, some time, and no trace of it."""

import resource
import sys
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

    bomb = tmp_path / "bomb.pth"
    with zipfile.ZipFile(file) as plain, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for one in plain.infolist():
            packed.writestr(one.filename, plain.read(one))
            if one.filename.endswith("/data/0"):
                packed.getinfo(one.filename).file_size = 2 * 10**9  # what it says it unpacks to
    with pytest.raises(Problem) as caught:
        quarantine.receive(bomb, described, tmp_path / "store")
    assert caught.value.code == "model_file_invalid"
    assert caught.value.detail == "It takes too much memory to be read."
    assert [path.name for path in (tmp_path / "store").iterdir()] == [described.id]


def test_half_precision_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tensors, in float32 and twice, and the bytes to write: seven times the file."""
    told = {}
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: told.update({kind: pair[0]}))
    file_bytes = 300 * 2**20
    before = quarantine._size_now()
    quarantine.confine(file_bytes)
    assert 7 * file_bytes < told[resource.RLIMIT_AS] - before < 11 * file_bytes
    assert told[resource.RLIMIT_CORE] == 0


def _program(path: Path, monkeypatch: pytest.MonkeyPatch, *, end: str) -> None:
    """Instead of Python: it saves as that does, and then breaks."""
    store = path.with_name("store")
    path.write_text(f"#!/bin/sh\nmkdir -p {store}/.tmp-ckpt_1/a {store}/ckpt_1 {store}/b\n{end}\n")
    path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(path))


def test_one_that_takes_too_long_is_ended(
    manifest: Callable[..., Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(tmp_path / "slow", monkeypatch, end="exec sleep 60")
    with pytest.raises(Problem, match=r"longer than 0\.5 s"):
        quarantine.receive(tmp_path / "x", manifest(), tmp_path / "store", seconds=0.5)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["b"]


def test_one_that_breaks_is_told_of(
    manifest: Callable[..., Manifest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _program(tmp_path / "broken", monkeypatch, end="echo FileNotFoundError >&2; kill -9 $$")
    with pytest.raises(Problem, match="ended, as it does when memory runs out"):
        quarantine.receive(tmp_path / "x", manifest(), tmp_path / "store")
    assert "ended with -9: FileNotFoundError" in caplog.text
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["b"]
