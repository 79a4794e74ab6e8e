"""Decoded sets on disk: all or nothing, whoever writes at the same time."""

import json
import os
import shutil
import zlib
from collections.abc import Callable
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
            name="set",
            version="abc",
            classes=("a", "b"),
            skipped=[Skipped("a/é.png", "not_an_image", "no", "train", 1)],
        )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = cache.place(tmp_path / "new", "key", size=(2, 3), channels=1)
    assert cache.mend(folder, heard=len) is None
    assert not folder.exists()
    write(folder)
    assert cache.mend(folder, heard=lambda _: None) is None
    found = cache.read(folder, "set")
    assert (found.name, found.version, found.classes) == ("set", "abc", ("a", "b"))
    assert found.skipped == (Skipped("a/é.png", "not_an_image", "no", "train", 1),)
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


def test_sets_of_other_files_are_outdated(tmp_path: Path) -> None:
    places = [
        cache.place(tmp_path, key, size=(2, 3), channels=1, held=held)
        for key in ("new", "old")
        for held in (True, False)
    ]
    for place in places:
        write(place)
    assert cache.outdated(tmp_path, {"new", "other"}) == places[2:]
    assert cache.outdated(tmp_path / "none", set()) == []


def test_the_first_to_finish_wins(tmp_path: Path) -> None:
    folder = tmp_path / "place"
    with cache.Draft(folder, needed_bytes=0) as slow:
        slow.add("train", images(3, value=1))
        write(folder, value=2)
        kept = cache.read(folder, "set")
        slow.finish(name="set", version="abc", classes=("a", "b"), skipped=[])
    assert (kept.parts["train"].images == 2).all()
    assert (cache.read(folder, "set").parts["train"].images == 2).all()
    assert [p.name for p in tmp_path.iterdir()] == ["place"]


def test_a_set_that_is_not_to_last_goes_with_its_draft(tmp_path: Path) -> None:
    folder = tmp_path / "place"
    how = {"name": "set", "version": "abc", "classes": ("a", "b"), "skipped": [], "lasting": False}
    with cache.Draft(folder, needed_bytes=0) as draft:
        draft.add("train", images(3, value=1))
        found = cache.read(draft.finish(**how), "set")
    assert list(tmp_path.iterdir()) == []
    assert (found.parts["train"].images == 1).all()

    with cache.Draft(folder, needed_bytes=0) as slow:
        slow.add("train", images(3, value=1))
        write(folder, value=2)
        assert slow.finish(**how) == folder, "somebody has decoded all of it meanwhile"
    assert (cache.read(folder, "set").parts["train"].images == 2).all()


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


def test_a_disk_that_fills_up_keeps_nothing_of_a_set(tmp_path: Path) -> None:
    def fill() -> None:
        with cache.Draft(tmp_path / "x", needed_bytes=0) as draft:
            [folder] = cache.drafts(tmp_path)
            (folder / "train.labels.npy").symlink_to("/dev/full")
            for _ in range(100):
                draft.add("train", images(300))

    with pytest.raises(Problem) as caught:
        fill()
    assert caught.value.code == "disk_full"
    assert list(tmp_path.iterdir()) == []


def test_drafts_of_killed_processes_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".draft-old").mkdir()
    os.utime(tmp_path / ".draft-old", (0, time() - 7200))
    (tmp_path / ".draft-new").mkdir()
    write(tmp_path / "place")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".draft-new", "place"]


def alter(file: Path, at: int = -1) -> None:
    """Another bit, the same size and the same time."""
    before, data = file.stat(), bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "removed": (lambda set: (set / "test.labels.npy").unlink(), "test.labels.npy is missing"),
    "cut off": (
        lambda set: os.truncate(set / "train.images.npy", 200),
        "train.images.npy has another size than was written",
    ),
    "emptied": (
        lambda set: os.truncate(set / "test.borders.npy", 0),
        "test.borders.npy has another size than was written",
    ),
    "longer": (
        lambda set: os.truncate(set / "train.labels.npy", 10_000),
        "train.labels.npy has another size than was written",
    ),
    "data": (
        lambda set: alter(set / "train.images.npy"),
        "train.images.npy is not what was written",
    ),
    "header": (
        lambda set: alter(set / "train.spreads.npy", 30),
        "train.spreads.npy is not what was written",
    ),
    "no record": (
        lambda set: (set / "set.json").unlink(),
        "set.json cannot be read: No such file or directory",
    ),
    "half a record": (
        lambda set: (set / "set.json").write_text("{"),
        "set.json is not what was written",
    ),
    "another record": (
        lambda set: (set / "set.json").write_text(
            (set / "set.json").read_text().replace('"a"', '"c"')
        ),
        "set.json is not what was written",
    ),
    "no file": (
        lambda set: ((set / "test.images.npy").unlink(), (set / "test.images.npy").mkdir()),
        "test.images.npy",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_folders_are_removed_and_made_again(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "place"
    write(folder)
    assert cache.fault(folder) is None
    spoil, said = DAMAGES[damage]
    spoil(folder)
    assert cache.fault(folder).startswith(said)
    assert folder.exists()  # looking changes nothing
    assert cache.mend(folder, heard=lambda _: None).startswith(said)
    assert not folder.exists()
    write(folder)
    assert cache.fault(folder) is None


def test_one_of_an_older_danlu_is_not_called_damaged(tmp_path: Path) -> None:
    folder = cache.place(tmp_path, "key", size=(2, 3), channels=1)
    write(folder)
    (folder / "set.json").write_text('{"version": "abc", "classes": ["a"], "parts": ["train"]}')
    assert cache.fault(folder) == "it was decoded by an older danlu"
    assert cache.version(tmp_path, "key") is None
    assert cache.mend(folder, heard=lambda _: None) is None
    assert not folder.exists()


def test_without_checksums_only_sizes_are_compared(tmp_path: Path) -> None:
    write(tmp_path / "place")
    alter(tmp_path / "place" / "train.images.npy")
    assert cache.fault(tmp_path / "place", checksums=False) is None
    os.truncate(tmp_path / "place" / "train.images.npy", 200)
    assert cache.fault(tmp_path / "place", checksums=False) is not None


def test_all_of_it_is_read_and_may_be_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "place"
    write(folder)
    read: list[int] = []
    assert cache.fault(folder, heard=read.append) is None
    headers = 8 * 128
    assert sum(read) + headers + (folder / "set.json").stat().st_size == cache.weigh(folder)

    def stop(count: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        cache.mend(folder, heard=stop)
    assert cache.fault(folder) is None


def test_a_good_one_that_came_meanwhile_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "place"
    write(folder, value=1)
    alter(folder / "train.images.npy")

    def others_are_faster(count: int) -> None:
        if not (tmp_path / "old").exists():
            folder.rename(tmp_path / "old")
            write(folder, value=2)

    cache.mend(folder, heard=others_are_faster)
    assert (cache.read(folder, "set").parts["train"].images == 2).all()


def test_what_may_not_be_removed_is_never_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "place"
    write(folder)
    alter(folder / "train.images.npy")
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    assert cache.mend(folder, heard=lambda _: None) is not None
    assert not folder.exists()


def test_what_there_is_and_how_it_is_called(tmp_path: Path) -> None:
    assert (cache.sets(tmp_path / "none"), cache.drafts(tmp_path / "none")) == ([], [])
    folder = cache.place(tmp_path, "key", size=(2, 3), channels=1)
    write(folder)
    (tmp_path / ".draft-x").mkdir()
    assert (cache.sets(tmp_path), cache.drafts(tmp_path)) == ([folder], [tmp_path / ".draft-x"])
    assert cache.title(folder) == "set at 2x3x1"
    (folder / "set.json").unlink()
    assert cache.title(folder) == "key-2x3x1"
    assert cache.weigh(tmp_path / "none") == 0


def test_other_files_other_key(tmp_path: Path) -> None:
    files = [b"a 1 2", b"b 3 4"]
    same = cache.key(tmp_path, files)
    assert cache.key(tmp_path, iter(files)) == same
    shutil.copytree(tmp_path, tmp_path / "copy")
    others = [files[::-1], files[:1], [b"a 1 3", files[1]], [b"a 2 2", files[1]]]
    keys = {cache.key(tmp_path, other) for other in others} | {cache.key(tmp_path / "copy", files)}
    assert len(keys - {same}) == 5


def test_a_record_of_an_older_danlu_is_replaced_without_a_word(tmp_path: Path) -> None:
    folder = tmp_path / "place"
    write(folder)
    record = json.loads((folder / "set.json").read_text())
    del record["crc32"], record["sums"]
    record["crc32"] = zlib.crc32(json.dumps(record).encode())
    (folder / "set.json").write_text(json.dumps(record))
    assert cache.mend(folder, heard=len) is None
    assert not folder.exists()
