"""Images from where they lie, at the wanted size, with what cannot be read left out."""

import errno
import os
import signal
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import images
from data_store.parts import Sums
from data_store.sources import BuiltInSource, FolderSource, Source, Wanted
from problems import Problem

Write = Callable[[dict[str, bytes]], Path]


def read(
    source: Source,
    part: str = "train",
    size: tuple[int, int] = (4, 6),
    channels: int = 3,
    tick: Callable[[], object] = lambda: None,
):
    """All batches of a part, together, and then the version."""
    batches = list(source.batches(part, Wanted(size, channels), tick))
    joined = {
        name: np.concatenate([getattr(batch, name) for batch in batches])
        for name in ("images", "labels", "borders", "spreads")
    }
    return joined, source.version()


@pytest.mark.parametrize("channels", [1, 3])
def test_files_are_decoded_by_images(write: Write, png, channels: int) -> None:
    files = {f"set/{'ab'[n % 2]}/{n}.png": png(n, (9, 5 + n)) for n in range(0, 150)}
    source = FolderSource(write(files) / "set")
    found, _ = read(source, channels=channels)
    paths = sorted(files, key=lambda path: path.split("/")[1:])
    expected = [images.decode(files[path], size=(4, 6), channels=channels) for path in paths]
    np.testing.assert_array_equal(found["images"], [each.pixels for each in expected])
    np.testing.assert_allclose(found["borders"], [each.border for each in expected])
    np.testing.assert_allclose(found["spreads"], [each.border_spread for each in expected])
    assert found["labels"].tolist() == [0] * 75 + [1] * 75
    assert source.skipped == []


def test_processes_read_the_same_in_the_same_order(write: Write, png) -> None:
    files = {f"set/{'ab'[n % 2]}/{n}.png": png(n % 256, (9, 5)) for n in range(300)}
    root = write(files | {"set/a/0.png": b"junk"}) / "set"
    several, alone = FolderSource(root, processes=2), FolderSource(root, processes=0)
    found, expected = read(several), read(alone)
    for name in ("images", "labels", "borders", "spreads"):
        np.testing.assert_array_equal(found[0][name], expected[0][name])
    assert found[1] == expected[1]
    assert several.skipped == alone.skipped
    assert len(several.skipped) == 1


def test_images_that_nobody_keeps_are_counted_all_the_same(write: Write, png) -> None:
    root = write({f"set/{'ab'[n % 2]}/{n}.png": png(n, (9, 5)) for n in range(6)}) / "set"
    for source in (FolderSource(root), BuiltInSource("digits", root)):
        [held] = source.batches("train", Wanted((4, 6), 3), lambda: None)
        [seen] = source.batches("train", Wanted((4, 6), 3, held=False), lambda: None)
        assert seen.images.shape == (0, 4, 6, 3)
        assert seen.labels.tolist() == held.labels.tolist()
        assert seen.sums == held.sums == Sums.of(held.images)


def test_processes_start_where_they_pay(write: Write, png, monkeypatch) -> None:
    monkeypatch.setattr("data_store.crew._cores", lambda: 3)
    root = write({f"set/{each}/1.png": png() for each in "ab"}) / "set"
    assert FolderSource(root).processes("train") == 0
    (root / "a/1.png").write_bytes(bytes(60_000_000))
    assert FolderSource(root).processes("train") == 3
    assert FolderSource(root, processes=64).processes("train") == 64


def test_what_cannot_be_read_is_skipped(write: Write, png) -> None:
    bad = {"set/a/1.png": b"", "set/b/0.jpg": b"junk", "set/b/9.png": png(1, (99, 99))[:90]}
    root = write({"set/a/2.png": png(2), "set/b/3.png": png(3), **bad})
    source = FolderSource(root / "set")
    found, _ = read(source)
    assert (found["images"][:, 0, 0, 0].tolist(), found["labels"].tolist()) == ([2, 3], [0, 1])
    assert [(each.file, each.code, each.part, each.place) for each in source.skipped] == [
        ("a/1.png", "empty_file", "train", 0),
        ("b/0.jpg", "not_an_image", "train", 2),
        ("b/9.png", "truncated_image", "train", 4),
    ]
    assert source.lasting


def test_a_file_that_vanished_is_skipped(write: Write, png) -> None:
    root = write({"set/a/1.png": png(), "set/a/2.png": png(), "set/b/1.png": png()})
    source = FolderSource(root / "set")
    (root / "set/a/1.png").unlink()
    found, _ = read(source)
    assert len(found["labels"]) == 2
    assert [each.file for each in source.skipped] == ["a/1.png"]
    assert not source.lasting, "it may be back when the set is wanted next"


def test_what_the_system_refuses_once_is_read_at_the_next_try(
    write: Write, png, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write({f"set/{'ab'[n % 2]}/{n}.png": png(n) for n in range(6)}) / "set"
    _, version = read(FolderSource(root))
    read_bytes, refused = Path.read_bytes, set[Path]()

    def refuse(path: Path) -> bytes:
        if path.name in ("2.png", "5.png") and path not in refused:
            refused.add(path)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    source = FolderSource(root)
    found, again = read(source)
    assert len(refused) == 2
    assert found["images"][:, 0, 0, 0].tolist() == [0, 2, 4, 1, 3, 5]
    assert (source.skipped, source.lasting, again) == ([], True, version)


def kill_reader(fifo: Path) -> bool:
    """Kills the process that has it open to read, if there is one."""
    try:
        writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    status = fifo.stat()
    while not (pids := holders(status)):
        pass
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    while holders(status):  # the next may not be taken for this one
        pass
    os.close(writer)
    return True


def holders(file: os.stat_result) -> set[int]:
    """The processes beside this one that have it open."""
    found = set()
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if os.path.samestat(fd.stat(), file):
                found.add(int(fd.parts[2]))
    return found - {os.getpid()}


@pytest.mark.parametrize("recovers", [True, False])
def test_a_file_whose_process_is_killed_is_tried_once_more_alone(
    write: Write, png, recovers: bool
) -> None:
    """Whoever kills it: it is known to be that file's doing when it happens again then."""
    root = write({f"set/{'ab'[n % 2]}/{n}.png": png(n) for n in range(6)}) / "set"
    _, version = read(FolderSource(root))
    source = FolderSource(root, processes=1)
    hard, away = root / "a/2.png", root / "away"
    hard.rename(away)
    os.mkfifo(hard)
    killed = 0

    def tick() -> None:
        nonlocal killed
        if stat.S_ISFIFO(hard.stat().st_mode) and kill_reader(hard):
            killed += 1
            if recovers and killed == 2:
                away.replace(hard)

    found, again = read(source, tick=tick)
    assert source.lasting
    assert killed == (2 if recovers else 3)
    shades = found["images"][:, 0, 0, 0].tolist()
    if recovers:
        assert (shades, source.skipped, again) == ([0, 2, 4, 1, 3, 5], [], version)
    else:
        assert (shades, [one.file for one in source.skipped]) == ([0, 4, 1, 3, 5], ["a/2.png"])


@pytest.mark.parametrize("part", ["train", "test"])
def test_nothing_left_is_fatal(write: Write, png, part: str) -> None:
    files = {f"set/{each}/{c}/1.png": png() for each in ("train", "test") for c in "ab"}
    files |= {path: b"" for path in files if part in path}
    with pytest.raises(Problem, match=f"None of the {part} images") as caught:
        read(FolderSource(write(files) / "set"), part)
    assert caught.value.code == "dataset_invalid"


def test_a_class_left_empty_is_fatal(write: Write, png) -> None:
    root = write({"set/a/1.png": png(), "set/b/1.png": b"junk"})
    with pytest.raises(Problem, match="class 'b'"):
        read(FolderSource(root / "set"))


def test_the_version_is_of_the_content(write: Write, png) -> None:
    root = write({"one/a/1.png": png(1), "one/b/1.png": png(2), "one/b/2.png": b""})
    write({"two/a/1.png": png(1), "two/b/1.png": png(2), "two/b/2.png": b""})
    write({"other/a/1.png": png(1), "other/b/1.png": png(3), "other/b/2.png": b""})
    write({"names/a/1.png": png(1), "names/c/1.png": png(2), "names/c/2.png": b""})
    one, two = FolderSource(root / "one"), FolderSource(root / "two")
    version = read(one)[1]
    assert read(two, size=(9, 9), channels=1)[1] == version
    assert one.key != two.key
    assert len({version, *(read(FolderSource(root / n))[1] for n in ("other", "names"))}) == 3


def test_digits_are_resized_by_images(tmp_path: Path) -> None:
    own, version = read(BuiltInSource("digits", tmp_path), "test", (8, 8), 1)
    found, again = read(BuiltInSource("digits", tmp_path), "test", (28, 28), 3)
    assert found["images"].shape == (360, 28, 28, 3)
    assert version == again
    for image, resized in zip(own["images"][:9], found["images"], strict=False):
        np.testing.assert_array_equal(images.resize(image, (28, 28), 3), resized)
    expected = [images.border(image) for image in own["images"]]
    np.testing.assert_allclose(found["borders"], [mean for mean, _ in expected], atol=1e-6)
    np.testing.assert_allclose(found["spreads"], [spread for _, spread in expected], atol=1e-6)


def test_one_key_until_a_file_changes(write: Write, mnist_files: dict[str, bytes]) -> None:
    root = write(mnist_files)
    key = BuiltInSource("mnist", root).key
    assert BuiltInSource("mnist", root).key == key
    write({"MNIST/raw/t10k-labels-idx1-ubyte": b"another"})
    assert BuiltInSource("mnist", root).key != key
