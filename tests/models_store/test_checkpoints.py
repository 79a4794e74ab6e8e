"""Checkpoints on disk: whole or not at all, unchanged or refused, and swept when nobody's."""

import hashlib
import io
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from models_store import architectures, checkpoints
from models_store.checkpoints import MANIFEST, WEIGHTS
from models_store.manifest import Manifest
from problems import Problem

Make = Callable[..., Manifest]
STATE = {"model.0.weight": torch.arange(600.0).reshape(2, 300), "model.0.bias": torch.ones(2)}


@pytest.fixture
def folder(tmp_path: Path, manifest: Make) -> Path:
    """A small checkpoint."""
    return checkpoints.save(tmp_path, STATE, manifest())


def _names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


def _refusal(folder: Path) -> Problem:
    with pytest.raises(Problem) as caught:
        checkpoints.read_state(folder, checkpoints.read_manifest(folder))
    return caught.value


class _Breaking:
    """A tensor whose device is gone by the time it is read."""

    def detach(self) -> torch.Tensor:
        raise RuntimeError("device lost")


class TestSave:
    def test_reads_what_it_wrote(self, folder: Path, manifest: Make) -> None:
        read = checkpoints.read_manifest(folder)
        assert read.model_copy(update={"files": {}}) == manifest()
        state = checkpoints.read_state(folder, read)
        assert state.keys() == STATE.keys()
        assert all(torch.equal(state[key], value) for key, value in STATE.items())

    def test_writes_two_files_into_a_folder_of_its_name(self, folder: Path) -> None:
        assert folder.name == "ckpt_1"
        assert _names(folder) == {MANIFEST, WEIGHTS}
        assert _names(folder.parent) == {"ckpt_1"}
        assert checkpoints.read_manifest(folder).files.keys() == {WEIGHTS}

    def test_other_programs_read_the_weights(self, folder: Path) -> None:
        state = load_file(folder / WEIGHTS)
        assert torch.equal(state["model.0.weight"], STATE["model.0.weight"])

    def test_makes_the_store(self, tmp_path: Path, manifest: Make) -> None:
        assert checkpoints.save(tmp_path / "a" / "b", STATE, manifest()).is_dir()

    def test_keeps_neither_memory_layout_nor_gradients(
        self, tmp_path: Path, manifest: Make
    ) -> None:
        network = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        weight = network.state_dict(keep_vars=True)["weight"]
        folder = checkpoints.save(tmp_path, {"weight": weight}, manifest())
        read = checkpoints.read_state(folder, checkpoints.read_manifest(folder))["weight"]
        assert torch.equal(read, weight)
        assert read.is_contiguous()
        assert not read.requires_grad

    @pytest.mark.parametrize("finished", [0, 1])
    def test_a_failure_in_the_middle_leaves_nothing(
        self, finished: int, tmp_path: Path, manifest: Make
    ) -> None:
        state: dict[str, Any] = {**dict(list(STATE.items())[:finished]), "broken": _Breaking()}
        with pytest.raises(RuntimeError, match="device lost"):
            checkpoints.save(tmp_path, state, manifest())
        assert _names(tmp_path) == set()

    def test_a_name_that_is_taken_stays_as_it_is(self, folder: Path, manifest: Make) -> None:
        with pytest.raises(OSError, match="ckpt_1"):
            checkpoints.save(folder.parent, {"other": torch.zeros(1)}, manifest())
        assert _names(folder.parent) == {"ckpt_1"}
        assert checkpoints.read_state(folder, checkpoints.read_manifest(folder)).keys() == (
            STATE.keys()
        )

    def test_a_manifest_that_cannot_be_written_leaves_nothing(
        self, tmp_path: Path, manifest: Make
    ) -> None:
        with pytest.raises(Exception, match="serialize"):
            checkpoints.save(tmp_path, STATE, manifest(recipe={"odd": object()}))
        assert _names(tmp_path) == set()


class TestDamage:
    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(Problem) as caught:
            checkpoints.read_manifest(tmp_path / "ckpt_9")
        assert caught.value.code == "checkpoint_not_found"
        assert "ckpt_9" in caught.value.detail

    def test_what_a_crash_left_is_no_checkpoint(self, tmp_path: Path) -> None:
        unfinished = tmp_path / ".tmp-ckpt_1"
        unfinished.mkdir()
        (unfinished / WEIGHTS).write_bytes(b"half")
        with pytest.raises(Problem) as caught:
            checkpoints.read_manifest(tmp_path / "ckpt_1")
        assert caught.value.code == "checkpoint_not_found"

    @pytest.mark.parametrize("place", range(13))
    def test_one_wrong_byte_anywhere_in_the_weights(self, place: int, folder: Path) -> None:
        data = bytearray((folder / WEIGHTS).read_bytes())
        data[place * (len(data) - 1) // 12] ^= 0x10
        (folder / WEIGHTS).write_bytes(data)
        problem = _refusal(folder)
        assert problem.code == "checkpoint_damaged"
        assert problem.detail == f"Checkpoint ckpt_1 is damaged: {WEIGHTS} is not what was saved."
        assert problem.hint

    @pytest.mark.parametrize("end", [0, 1, 7, 8, 100, -1])
    def test_weights_that_are_cut_off(self, end: int, folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(data[:end])
        assert _refusal(folder).code == "checkpoint_damaged"

    def test_weights_with_something_behind(self, folder: Path) -> None:
        with (folder / WEIGHTS).open("ab") as file:
            file.write(b"\0")
        assert _refusal(folder).code == "checkpoint_damaged"

    def test_weights_that_are_missing(self, folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        assert _refusal(folder).detail.endswith(f"{WEIGHTS} is missing.")

    def test_weights_that_no_checksum_vouches_for(self, folder: Path) -> None:
        manifest = checkpoints.read_manifest(folder).model_copy(update={"files": {}})
        with pytest.raises(Problem, match="not what was saved"):
            checkpoints.read_state(folder, manifest)

    def test_weights_in_another_format(self, folder: Path) -> None:
        other = b"PK: no safetensors"
        (folder / WEIGHTS).write_bytes(other)
        sums = {WEIGHTS: hashlib.sha256(other).hexdigest()}
        manifest = checkpoints.read_manifest(folder).model_copy(update={"files": sums})
        with pytest.raises(Problem, match="cannot be read") as caught:
            checkpoints.read_state(folder, manifest)
        assert caught.value.code == "checkpoint_damaged"

    @pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
    def test_a_manifest_that_is_cut_off(self, kept: float, folder: Path) -> None:
        data = (folder / MANIFEST).read_bytes()
        (folder / MANIFEST).write_bytes(data[: int(kept * len(data))])
        problem = _refusal(folder)
        assert problem.code == "checkpoint_damaged"
        assert problem.detail == "Checkpoint ckpt_1 is damaged: its manifest cannot be read."

    @pytest.mark.parametrize("text", ["[]", "{}", "null", '{"format": 2}', "\xff"])
    def test_a_manifest_of_something_else(self, text: str, folder: Path) -> None:
        (folder / MANIFEST).write_bytes(text.encode("latin-1"))
        assert _refusal(folder).code == "checkpoint_damaged"


@pytest.mark.parametrize("name", ["mnist_net", "cifar10_net", "lenet5"])
def test_as_pt_loads_into_the_notes_classes(
    name: str,
    notes: Mapping[str, Callable[[], nn.Module]],
    manifest: Make,
    network: Callable[[Manifest], nn.Module],
    tmp_path: Path,
) -> None:
    known = architectures.ARCHITECTURES[name]
    sides = {"height": known.input_size, "width": known.input_size}
    described = manifest(architecture=name, preprocessing={"channels": known.channels, **sides})
    ours = network(described)
    folder = checkpoints.save(tmp_path, ours.state_dict(), described)
    state = checkpoints.read_state(folder, checkpoints.read_manifest(folder))
    file = io.BytesIO(checkpoints.as_pt(state))
    theirs = notes[name]()
    theirs.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    images = torch.rand(2, known.channels, known.input_size, known.input_size)
    with torch.no_grad():
        assert torch.equal(theirs.eval()(images), ours(images))


def test_disk_bytes_counts_all_files(folder: Path) -> None:
    sizes = [(folder / name).stat().st_size for name in (WEIGHTS, MANIFEST)]
    assert checkpoints.disk_bytes(folder) == sum(sizes)


class TestRemove:
    def test_nothing_stays(self, folder: Path) -> None:
        checkpoints.remove(folder)
        assert _names(folder.parent) == set()

    def test_again_is_no_error(self, folder: Path) -> None:
        checkpoints.remove(folder)
        checkpoints.remove(folder)

    def test_others_stay(self, folder: Path, manifest: Make) -> None:
        checkpoints.save(folder.parent, STATE, manifest(id="ckpt_2"))
        checkpoints.remove(folder)
        assert _names(folder.parent) == {"ckpt_2"}


# By how far the job of all checkpoints here is known to be.
DONE = {"job_1": 2}


class TestSweep:
    @pytest.fixture
    def store(self, tmp_path: Path, manifest: Make) -> Path:
        """Two checkpoints, what two crashes left, and something that is not ours; all old."""
        for name in ("ckpt_1", "ckpt_2"):
            checkpoints.save(tmp_path, STATE, manifest(id=name))
        for name in (".tmp-ckpt_3", ".tmp-ckpt_4", "holiday"):
            (tmp_path / name).mkdir()
        (tmp_path / ".tmp-ckpt_3" / WEIGHTS).write_bytes(b"half")
        (tmp_path / "holiday" / "photo.jpg").write_bytes(b"")
        (tmp_path / "note.txt").write_text("mine")
        self.age(tmp_path, 7200)
        return tmp_path

    @staticmethod
    def age(root: Path, seconds: float) -> None:
        then = time.time() - seconds
        for path in root.iterdir():
            os.utime(path, (then, then))

    def test_removes_what_no_row_knows(self, store: Path) -> None:
        removed = checkpoints.sweep(store, ["ckpt_1", "ckpt_9"], epochs=DONE)
        assert sorted(removed) == [".tmp-ckpt_3", ".tmp-ckpt_4", "ckpt_2"]
        assert _names(store) == {"ckpt_1", "holiday", "note.txt"}

    def test_leaves_what_may_still_be_written(self, store: Path) -> None:
        self.age(store, 3500)
        assert checkpoints.sweep(store, [], epochs=DONE) == []
        assert len(_names(store)) == 6

    @pytest.mark.parametrize("epochs", [{}, {"job_1": 1}, {"job_2": 9}])
    def test_leaves_what_another_or_a_newer_database_may_know(
        self, store: Path, epochs: dict[str, int]
    ) -> None:
        """One that was lost, replaced by an older copy, or not the one that was meant."""
        removed = checkpoints.sweep(store, [], epochs=epochs)
        assert sorted(removed) == [".tmp-ckpt_3", ".tmp-ckpt_4"]

    def test_leaves_what_cannot_say_whose_it_is(self, store: Path, manifest: Make) -> None:
        checkpoints.save(store, STATE, manifest(id="ckpt_5", job_id=None))
        (store / "ckpt_2" / MANIFEST).write_text("{")
        self.age(store, 7200)
        checkpoints.sweep(store, [], epochs=DONE)
        assert {"ckpt_2", "ckpt_5"} <= _names(store)

    def test_the_age_can_be_chosen(self, store: Path) -> None:
        self.age(store, 20)
        assert (
            checkpoints.sweep(store, ["ckpt_1", "ckpt_2"], epochs=DONE, older_than_seconds=300)
            == []
        )
        assert len(checkpoints.sweep(store, ["ckpt_1"], epochs=DONE, older_than_seconds=10)) == 3

    def test_a_store_that_is_not_there_yet(self, tmp_path: Path) -> None:
        assert checkpoints.sweep(tmp_path / "checkpoints", [], epochs=DONE) == []
