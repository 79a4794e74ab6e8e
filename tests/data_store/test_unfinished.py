"""What has come of a file: whose bytes they are, who has it, and when it goes."""

import errno
import fcntl
import hashlib
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from data_store import unfinished
from data_store.unfinished import STALE_SECONDS, Unfinished, held


def nothing(_: int) -> None:
    pass


def check(part: Unfinished, target: Path, data: bytes) -> None:
    """Size, digest and disk agree."""
    assert part.size == len(data)
    assert part.hexdigest() == hashlib.md5(data).hexdigest()
    assert unfinished.path_of(target).read_bytes() == data
    assert unfinished.size(target) == len(data)


def test_the_last_source_is_dropped_alone(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    with held(target, "md5", waiting=nothing) as part:
        part.read(nothing)
        assert part.is_all_from("a")
        for source, data in (("a", b"one"), ("b", b"two"), ("c", b""), ("b", b"three")):
            part.begin(source)
            part.write(data)
        check(part, target, b"onetwothree")
        assert not part.is_all_from("b")
        part.drop("a")  # gave nothing last
        check(part, target, b"onetwothree")
        part.drop("b")
        check(part, target, b"onetwo")
        part.drop("c")
        part.drop("b")
        check(part, target, b"one")
        assert part.last_source == "a"
        assert part.is_all_from("a")
        part.write(b"1")
        check(part, target, b"one1")
        part.clear()
        check(part, target, b"")
    assert list(target.parent.iterdir()) == []


def test_it_is_kept_and_taken_up_and_finished(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with held(target, "md5", waiting=nothing) as part:
        part.write(b"half")
    assert unfinished.size(target) == 4
    told: list[int] = []
    with held(target, "md5", waiting=nothing) as part:
        part.read(told.append)
        assert told == [4]
        part.begin("a")
        part.write(b" and half")
        check(part, target, b"half and half")
        assert not part.is_all_from("a")
        part.finish(target)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert target.read_bytes() == b"half and half"
    assert unfinished.size(target) == 0


def test_who_waits_is_told_and_may_leave(tmp_path: Path) -> None:
    target = tmp_path / "file"

    def leave(size: int) -> None:
        assert size == 4
        raise KeyboardInterrupt

    with held(target, "md5", waiting=nothing) as part:
        part.write(b"half")
        with pytest.raises(KeyboardInterrupt), held(target, "md5", waiting=leave):
            pytest.fail("two have it")
    assert unfinished.size(target) == 4


@pytest.mark.parametrize("finished", [True, False])
def test_who_waited_begins_a_new_one(finished: bool, tmp_path: Path) -> None:
    target = tmp_path / "file"
    waits = threading.Event()
    found: list[int] = []

    def wait() -> None:
        with held(target, "md5", waiting=lambda _: waits.set()) as part:
            part.read(nothing)
            found.append(part.size)

    thread = threading.Thread(target=wait)
    with held(target, "md5", waiting=nothing) as part:
        part.write(b"whole")
        thread.start()
        waits.wait()
        part.finish(target) if finished else part.clear()
    thread.join()
    assert found == [0]
    assert [path.name for path in tmp_path.iterdir()] == (["file"] if finished else [])


def test_a_disk_without_locks_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with held(tmp_path / "file", "md5", waiting=nothing) as part:
        part.write(b"whole")
        part.finish(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_old_ones_go_and_others_stay(tmp_path: Path) -> None:
    datasets, weights = tmp_path / "datasets", tmp_path / "weights"
    unfinished.sweep(datasets, weights)  # there is nothing yet
    old = (
        datasets / "MNIST/raw/train-images-idx3-ubyte.gz.part",
        datasets / "MNIST/raw/train-images-idx3-ubyte.0123abcd.part",
        datasets / "cifar-10-python.tar.gz.part",
        weights / "net-0123abcd.pth.part",
    )
    kept = (
        datasets / "somebodys.part",
        datasets / "MNIST/raw/train-images-idx3-ubyte.gz",
        weights / "net-0123abcd.pth",
    )
    new = datasets / "cifar-100-python.tar.gz.part"
    busy = datasets / "train_32x32.mat.part"
    for path in (*old, *kept, new, busy):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"some")
    long_ago = time.time() - STALE_SECONDS - 10
    with held(busy.with_suffix(""), "md5", waiting=nothing):
        for path in (*old, *kept, busy):
            os.utime(path, (long_ago, long_ago))
        unfinished.sweep(datasets, weights)
    left = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*kept, new, busy}
