"""Decoded sets on disk: all or nothing, whoever writes at the same time."""

import os
import shutil
from pathlib import Path
from time import time

import numpy as np
import pytest

from data_store import cache
from data_store.parts import Part, Skipped
from problems import Problem


def images(count: int, value: int = 7) -> Part:
    return Part(
        images=np.full((count, 2, 3, 1), value, np.uint8),
        labels=np.arange(count, dtype=np.int64),
        borders=np.full(count, 0.5, np.float32),
        spreads=np.zeros(count, np.float32),
    )


def write(folder: Path, value: int = 7) -> None:
    with cache.Draft(folder, needed_bytes=100) as draft:
        draft.add("train", images(300, value))
        draft.add("train", images(5, value))
        draft.add("test", images(1, value))
        draft.finish(
            version="abc", classes=("a", "b"), skipped=[Skipped("a/é.png", "not_an_image", "no")]
        )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = cache.place(tmp_path / "new", "key", size=(2, 3), channels=1)
    assert cache.read(folder, "set") is None
    write(folder)
    found = cache.read(folder, "set")
    assert (found.name, found.version, found.classes) == ("set", "abc", ("a", "b"))
    assert found.skipped == (Skipped("a/é.png", "not_an_image", "no"),)
    train = found.parts["train"]
    assert (train.images.shape, train.images.dtype) == ((305, 2, 3, 1), np.uint8)
    assert isinstance(train.images, np.memmap)
    assert train.images.flags.writeable
    assert (train.images == 7).all()
    assert train.labels.tolist() == [*range(300), *range(5)]
    assert (train.borders.dtype, train.spreads.dtype) == (np.float32, np.float32)
    assert len(found.parts["test"].labels) == 1
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["key-2x3x1"]


def test_the_version_is_known_at_every_size(tmp_path: Path) -> None:
    assert cache.version(tmp_path, "key") is None
    write(cache.place(tmp_path, "key", size=(2, 3), channels=1))
    assert cache.version(tmp_path, "key") == "abc"
    assert cache.version(tmp_path, "other") is None


def test_the_first_to_finish_wins(tmp_path: Path) -> None:
    folder = tmp_path / "place"
    with cache.Draft(folder, needed_bytes=0) as slow:
        slow.add("train", images(3, value=1))
        write(folder, value=2)
        kept = cache.read(folder, "set")
        slow.finish(version="abc", classes=("a", "b"), skipped=[])
    assert (kept.parts["train"].images == 2).all()
    assert (cache.read(folder, "set").parts["train"].images == 2).all()
    assert [p.name for p in tmp_path.iterdir()] == ["place"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def stopped() -> None:
        with cache.Draft(tmp_path / "x", needed_bytes=0) as draft:
            draft.add("train", images(3))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_before_and_on_the_way(tmp_path: Path) -> None:
    with pytest.raises(Problem) as caught, cache.Draft(tmp_path / "x", needed_bytes=10**18):
        pass
    assert caught.value.code == "disk_full"
    with pytest.raises(Problem) as caught, cache.Draft(tmp_path / "x", needed_bytes=0):
        raise OSError(28, "No space left on device")
    assert caught.value.code == "disk_full"
    assert list(tmp_path.iterdir()) == []


def test_drafts_of_killed_processes_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".draft-old").mkdir()
    os.utime(tmp_path / ".draft-old", (0, time() - 7200))
    (tmp_path / ".draft-new").mkdir()
    write(tmp_path / "place")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".draft-new", "place"]


@pytest.mark.parametrize("damage", ["removed", "cut off", "record"])
def test_damaged_folders_are_made_again(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "place"
    write(folder)
    if damage == "removed":
        (folder / "test.labels.npy").unlink()
    elif damage == "cut off":
        os.truncate(folder / "train.images.npy", 200)
    else:
        (folder / "set.json").write_text("{")
    assert cache.read(folder, "set") is None
    write(folder)
    assert cache.read(folder, "set") is not None


def test_other_files_other_key(tmp_path: Path) -> None:
    files = [("a", 1, 2), ("b", 3, 4)]
    same = cache.key(tmp_path, files)
    assert cache.key(tmp_path, iter(files)) == same
    shutil.copytree(tmp_path, tmp_path / "copy")
    others = [files[::-1], files[:1], [("a", 1, 3), files[1]], [("a", 2, 2), files[1]]]
    keys = {cache.key(tmp_path, other) for other in others} | {cache.key(tmp_path / "copy", files)}
    assert len(keys - {same}) == 5
