"""The throw-away process: a few copies of a file, some time, and no trace of it."""

import json
import resource
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models_store import quarantine
from models_store.manifest import Manifest
from problems import Problem


def test_a_bomb_is_ended_by_its_limits(manifest: Callable[..., Manifest], tmp_path: Path) -> None:
    """The process itself; that weights come in through it is seen in test_models_travel."""
    plain_, bomb, described = tmp_path / "model.pth", tmp_path / "bomb.pth", manifest(job_id=None)
    torch.save({"0.weight": torch.zeros(9)}, plain_)
    with zipfile.ZipFile(plain_) as plain, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as made:
        for one in plain.infolist():
            made.writestr(one.filename, plain.read(one))
            if one.filename.endswith("/data/0"):
                made.getinfo(one.filename).file_size = 2 * 10**9  # what it says it unpacks to
    with pytest.raises(Problem) as caught:
        quarantine.receive(bomb, described, tmp_path / "store")
    assert caught.value.code == "model_file_invalid"
    assert caught.value.detail == "It takes too much memory to be read."
    assert not list(tmp_path.glob("store/*"))


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
    """Instead of Python: it saves as that does, and then ends so."""
    store = path.with_name("store")
    path.write_text(f"#!/bin/sh\nmkdir -p {store}/.tmp-ckpt_1/a {store}/ckpt_1 {store}/b\n{end}\n")
    path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(path))


def test_what_it_says_is_heard(
    manifest: Callable[..., Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = json.dumps({"disk_bytes": 7, "left_out": ["aux1.weight"]})
    _program(tmp_path / "whole", monkeypatch, end=f"echo '{told}'")
    arrived = quarantine.receive(_file(tmp_path), manifest(), tmp_path / "store")
    assert arrived == (7, ["aux1.weight"])
    assert len(list((tmp_path / "store").iterdir())) == 3


def test_one_that_takes_too_long_is_ended(
    manifest: Callable[..., Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(tmp_path / "slow", monkeypatch, end="exec sleep 60")
    communicate = subprocess.Popen.communicate

    def when_it_has_saved(process: Any, *given: Any, **how: Any) -> Any:
        while not (tmp_path / "store" / "b").exists():
            time.sleep(0.01)
        return communicate(process, *given, **how)

    monkeypatch.setattr(subprocess.Popen, "communicate", when_it_has_saved)
    with pytest.raises(Problem, match=r"longer than 0\.5 s"):
        quarantine.receive(_file(tmp_path), manifest(), tmp_path / "store", seconds=0.5)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["b"]


def test_one_that_breaks_is_told_of(
    manifest: Callable[..., Manifest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _program(tmp_path / "broken", monkeypatch, end="echo FileNotFoundError >&2; kill -9 $$")
    with pytest.raises(Problem, match="ended, as it does when memory runs out"):
        quarantine.receive(_file(tmp_path), manifest(), tmp_path / "store")
    assert "ended with -9: FileNotFoundError" in caplog.text
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["b"]


def _file(folder: Path) -> Path:
    """As a pickle begins, so that a process is started for it."""
    (folder / "x").write_bytes(b"\x80")
    return folder / "x"


def test_no_process_is_started_for_what_is_no_weights(
    manifest: Callable[..., Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine.sys, "executable", "/nowhere")
    (tmp_path / "x").write_text("a letter")
    with pytest.raises(Problem, match=r"neither a file of torch\.save nor of safetensors"):
        quarantine.receive(tmp_path / "x", manifest(), tmp_path / "store")
