"""Data sets as arrays, end to end: decoded once, mapped ever after."""

import errno
import json
import os
import shutil
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

import images
from data_store import arrays, catalog, readers
from data_store.arrays import DataSet
from problems import Problem

Write = Callable[[dict[str, bytes]], Path]
ARRAYS = ("images", "labels", "borders", "spreads")


def nothing(phase: str, done: int, total: int) -> None:
    pass


def load(name: str, root: Path, progress: arrays.Progress = nothing, **changed) -> DataSet:
    wanted = {"cache": root.parent / "cache", "size": (6, 4), "channels": 3} | changed
    return arrays.load(name, root=root, progress=progress, **wanted)


@pytest.fixture
def pets(write: Write, png) -> Path:
    names = ["train/cat/1", "train/cat/2", "train/dog/1", "val/dog/3", "test/cat/4"]
    files = {f"pets/{name}.png": png(n, (12, 10)) for n, name in enumerate(names)}
    return write(files | {"pets/train/cat/broken.png": b"junk"})


def test_a_folder_is_decoded_once(pets: Path) -> None:
    told: list[tuple[str, int, int]] = []
    first = load("Pets", pets, lambda *call: told.append(call))
    assert (told[0], told[-1]) == (("decoding", 0, 6), ("decoding", 6, 6))
    assert (first.name, first.classes, list(first.parts)) == (
        "pets",
        ("cat", "dog"),
        ["train", "val", "test"],
    )
    assert first.parts["train"].images.shape == (3, 6, 4, 3)
    assert first.parts["train"].images[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert first.parts["train"].labels.tolist() == [0, 0, 1]
    assert first.parts["val"].labels.tolist() == [1]
    assert [each.file for each in first.skipped] == ["train/cat/broken.png"]

    told.clear()
    second = load("pets", pets, lambda *call: told.append(call))
    assert told == []
    assert second.version == first.version == load("pets", pets, size=(3, 3)).version
    assert second.skipped == first.skipped
    assert catalog.facts("pets", pets, cache=pets.parent / "cache").version == first.version


def test_a_changed_file_is_seen(pets: Path, png) -> None:
    before = load("pets", pets).version
    (pets / "pets/train/cat/1.png").write_bytes(png(99, (5, 5)))
    after = load("pets", pets)
    assert after.version != before
    assert after.parts["train"].images[0, 0, 0, 0] == 99


@pytest.mark.parametrize("at", [40, -1])
@pytest.mark.parametrize("array", ["images", "labels", "borders", "spreads"])
def test_an_altered_file_is_found_and_decoded_anew(pets: Path, array: str, at: int) -> None:
    first = load("pets", pets)
    assert first.mended is None
    expected = {name: getattr(first.parts["train"], name).copy() for name in ARRAYS}
    [place] = (pets.parent / "cache").iterdir()
    file = place / f"train.{array}.npy"
    data = bytearray(file.read_bytes())
    data[at] ^= 4
    file.unlink()
    file.write_bytes(data)

    told: list[tuple[str, int, int]] = []
    again = load("pets", pets, lambda *call: told.append(call))

    assert again.mended == f"{file.name} is not what was written"
    assert told[-1] == ("decoding", 6, 6)
    assert again.version == first.version
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(again.parts["train"], name), expected[name])
    assert load("pets", pets).mended is None


def test_a_file_cut_short_is_found_and_decoded_anew(pets: Path) -> None:
    load("pets", pets)
    [place] = (pets.parent / "cache").iterdir()
    os.truncate(place / "train.images.npy", 200)
    again = load("pets", pets)
    assert again.mended == "train.images.npy has another size than was written"
    assert again.parts["train"].images[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_only_the_damaged_size_is_decoded_anew(pets: Path) -> None:
    load("pets", pets, size=(3, 3))
    load("pets", pets)
    [place] = (pets.parent / "cache").glob("*-6x4x3")
    (place / "set.json").write_text("[]")
    told: list[tuple[str, int, int]] = []
    assert load("pets", pets, lambda *call: told.append(call), size=(3, 3)).mended is None
    assert told == []
    assert load("pets", pets).mended == "set.json is not what was written"


def test_a_set_that_the_disk_cannot_hold(pets: Path) -> None:
    told: list[tuple[str, int, int]] = []
    with pytest.raises(Problem) as caught:
        load("pets", pets, lambda *call: told.append(call), size=(10**7, 10**7))
    assert caught.value.code == "disk_full"
    assert told == [("decoding", 0, 6)]
    assert list((pets.parent / "cache").iterdir()) == []


def test_stopped_on_the_way(pets: Path) -> None:
    def stop(phase: str, done: int, total: int) -> None:
        if done:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        load("pets", pets, stop)
    assert list((pets.parent / "cache").iterdir()) == []


def test_a_set_that_fails_leaves_nothing(write: Write) -> None:
    root = write({"junk/a/1.png": b"junk", "junk/b/1.png": b"junk"})
    with pytest.raises(Problem):
        load("junk", root)
    assert list((root.parent / "cache").iterdir()) == []


@pytest.mark.parametrize("mode", ["resident", "stream"])
def test_what_the_system_refused_is_missing_in_no_later_job(pets: Path, mode: arrays.Mode) -> None:
    file, away = pets / "pets/train/cat/1.png", pets / "away"

    def move(phase: str, done: int, total: int) -> None:
        if file.exists():
            file.rename(away)

    first = load("pets", pets, move, mode=mode)
    assert [each.file for each in first.skipped] == ["train/cat/1.png", "train/cat/broken.png"]
    assert pixels(first, "train")[:, 0, 0, 0].tolist() == [1, 2]
    assert list((pets.parent / "cache").iterdir()) == []
    away.rename(file)  # with the size and the times that it had

    second = load("pets", pets, mode=mode)
    assert [each.file for each in second.skipped] == ["train/cat/broken.png"]
    assert pixels(second, "train")[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert second.version != first.version
    assert pixels(first, "train")[:, 0, 0, 0].tolist() == [1, 2]


def test_several_decode_at_once(pets: Path) -> None:
    together = Barrier(3)

    def wait(phase: str, done: int, total: int) -> None:
        if done == 0:
            together.wait(10)

    with ThreadPoolExecutor(3) as pool:
        sets = list(pool.map(lambda _: load("pets", pets, wait), range(3)))
    for each in sets:
        np.testing.assert_array_equal(each.parts["train"].images[:, 0, 0, 0], [0, 1, 2])
    assert len(list((pets.parent / "cache").iterdir())) == 1


def test_digits(tmp_path: Path) -> None:
    digits = load("digits", tmp_path / "root", size=(28, 28), channels=1)
    assert {part: each.images.shape for part, each in digits.parts.items()} == {
        "train": (1437, 28, 28, 1),
        "test": (360, 28, 28, 1),
    }
    assert digits.classes == tuple("0123456789")
    assert np.bincount(digits.parts["test"].labels).min() > 20
    facts = catalog.facts("digits", tmp_path / "root", cache=tmp_path / "cache")
    assert facts.version == digits.version


def test_mnist_as_the_notes_left_it(write: Write, mnist_files: dict[str, bytes]) -> None:
    root = write(mnist_files)
    mnist = load("mnist", root, size=(28, 28), channels=1)
    raw = mnist_files["MNIST/raw/train-images-idx3-ubyte"][16:]
    assert mnist.parts["train"].images.tobytes() == raw
    assert mnist.parts["test"].labels.tolist() == list(range(10))


def test_one_image_as_a_file(pets: Path, write: Write, mnist_files: dict[str, bytes]) -> None:
    write(mnist_files)
    file = (pets / "pets/train/cat/2.png").read_bytes()
    assert arrays.image_bytes("pets", pets, "train", 1) == file
    decoded = images.decode(arrays.image_bytes("mnist", pets, "test", 4), size=None, channels=1)
    np.testing.assert_array_equal(decoded.pixels, readers.read("mnist", pets, "test").images[4])
    with pytest.raises(IndexError):
        arrays.image_bytes("mnist", pets, "test", 10)
    for name in ("mnist", "pets", "digits"):
        with pytest.raises(KeyError):
            arrays.image_bytes(name, pets, "extra", 0)


def test_some_images_as_files(pets: Path, write: Write, mnist_files: dict[str, bytes]) -> None:
    write(mnist_files)
    for name, part in (("mnist", "test"), ("pets", "train")):
        found = arrays.some_bytes(name, pets, part, [3, 0, 99])
        assert found[:2] == [arrays.image_bytes(name, pets, part, n) for n in (3, 0)]
        assert found[2] is None
    with pytest.raises(KeyError):
        arrays.some_bytes("pets", pets, "extra", [0])


def test_places_count_images_that_cannot_be_read(pets: Path) -> None:
    broken = load("pets", pets)
    assert broken.places("train") == [0, 1, 3]  # cat/broken.png lies between
    assert list(broken.places("test")) == [0]
    (pets / "pets/train/cat/broken.png").unlink()
    assert list(load("pets", pets).places("train")) == [0, 1, 2]
    assert broken.places("train") == [0, 1, 3], "as they lay when it was decoded"


def test_a_record_without_the_places_of_what_was_left_out_is_decoded_anew(pets: Path) -> None:
    load("pets", pets)
    [place] = (pets.parent / "cache").iterdir()
    record = json.loads((place / "set.json").read_text())
    del record["crc32"]
    for one in record["skipped"]:
        del one["part"], one["place"]
    record["crc32"] = zlib.crc32(json.dumps(record).encode())
    (place / "set.json").write_text(json.dumps(record))
    again = load("pets", pets)
    assert again.mended is None, "it was not damaged"
    assert again.places("train") == [0, 1, 3]


def test_files_whose_names_are_written_alike_are_told_apart(pets: Path, png) -> None:
    for number, data in enumerate((b"junk", png(9, (12, 10)))):
        (pets / os.fsdecode(b"pets/train/cat/0%c.png" % (0xFE + number))).write_bytes(data)
    for mode in ("resident", "stream"):
        found = load("pets", pets, mode=mode)
        assert pixels(found, "train")[:, 0, 0, 0].tolist() == [9, 0, 1, 2]
        assert found.places("train") == [1, 2, 3, 5]


def pixels(data: DataSet, part: str) -> np.ndarray:
    """All images of a part, whether they are held or come in a stream."""
    if data.stream is None:
        return np.asarray(data.parts[part].images)
    found = data.stream.read(data.stream.items[part])
    assert not found.bad
    assert len(data.parts[part].images) == 0
    return found.pixels


@pytest.mark.parametrize(("name", "channels"), [("pets", 3), ("digits", 3), ("digits", 1)])
def test_a_stream_gives_what_is_held_otherwise(pets: Path, name: str, channels: int) -> None:
    held = load(name, pets, channels=channels)
    streamed = load(name, pets, channels=channels, mode="stream")
    assert (held.mode, streamed.mode) == ("resident", "stream")
    assert streamed.stream is not None
    assert (streamed.stream.why, streamed.stream.shape) == ("", (6, 4, channels))
    for part, expected in held.parts.items():
        np.testing.assert_array_equal(pixels(streamed, part), pixels(held, part))
        for array in ("labels", "borders", "spreads"):
            np.testing.assert_array_equal(
                getattr(streamed.parts[part], array), getattr(expected, array)
            )
        assert streamed.parts[part].sums == expected.sums
    for same in ("version", "classes", "skipped", "height", "width"):
        assert getattr(streamed, same) == getattr(held, same)
    assert (held.height, held.width) == ((8, 8) if name == "digits" else (10, 12))


def test_a_set_that_is_streamed_is_read_through_once(pets: Path) -> None:
    told: list[tuple[str, int, int]] = []
    load("pets", pets, lambda *call: told.append(call), mode="stream")
    assert (told[0], told[-1]) == (("decoding", 0, 6), ("decoding", 6, 6))
    told.clear()
    load("pets", pets, lambda *call: told.append(call), mode="stream")
    assert told == []
    assert not list((pets.parent / "cache").glob("*/*.images.npy"))


def test_auto_holds_what_there_is_memory_for(pets: Path) -> None:
    needed = 6 * 6 * 4 * 3
    held = load("pets", pets, mode="auto", budget_bytes=needed)
    streamed = load("pets", pets, mode="auto", budget_bytes=needed - 1)
    assert (held.mode, streamed.mode) == ("resident", "stream")
    assert streamed.stream is not None
    assert f"{needed:,} bytes" in streamed.stream.why
    assert load("pets", pets, mode="resident", budget_bytes=0).mode == "resident"


def test_auto_streams_what_the_disk_has_no_room_for(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage(pets)._replace(free=100)
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    streamed = load("pets", pets, mode="auto", budget_bytes=10**9)
    assert streamed.mode == "stream"
    assert streamed.stream is not None
    assert "100 are free" in streamed.stream.why
    with pytest.raises(Problem) as caught:
        load("pets", pets, mode="resident")
    assert caught.value.code == "disk_full"
    assert "stream" in caught.value.hint


@pytest.mark.parametrize("mode", ["resident", "stream"])
def test_a_cache_that_cannot_be_written_is_named(pets: Path, mode: arrays.Mode) -> None:
    (pets.parent / "cache").write_text("no folder")
    with pytest.raises(Problem) as caught:
        load("pets", pets, mode=mode)
    assert caught.value.detail.startswith("Decoded images cannot be kept: ")
    assert "cache/" in caught.value.hint


@pytest.mark.parametrize("mode", ["auto", "stream"])
def test_what_streams_is_not_told_to_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: arrays.Mode
) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    with pytest.raises(Problem) as caught:
        load("digits", tmp_path / "root", mode=mode)
    assert caught.value.code == "disk_full"
    assert "stream" not in caught.value.hint


def test_auto_streams_when_the_disk_fills_up_on_the_way(pets: Path) -> None:
    expected = load("pets", pets, mode="stream", cache=pets.parent / "roomy")
    full = [OSError(errno.ENOSPC, "No space left on device")]

    def fill(phase: str, done: int, total: int) -> None:
        if done and full:
            raise full.pop()

    streamed = load("pets", pets, fill, mode="auto", budget_bytes=10**9)
    assert streamed.stream is not None
    assert streamed.stream.why == "The disk filled up while images were decoded."
    assert streamed.version == expected.version
    assert streamed.skipped == expected.skipped
    assert streamed.stream.items == expected.stream.items


@pytest.fixture(scope="session")
def real() -> Path:
    found = os.environ.get("DANLU_TEST_DATA")
    if not found:
        pytest.skip("DANLU_TEST_DATA does not name the folder of the real data sets")
    return Path(found)


def test_real_mnist(real: Path, tmp_path: Path) -> None:
    mnist = load("mnist", real, cache=tmp_path, size=(28, 28), channels=1)
    train = mnist.parts["train"]
    assert (train.images.shape, train.labels[:5].tolist()) == ((60_000, 28, 28, 1), [5, 0, 4, 1, 9])
    assert train.borders.max() < 0.04  # white on black: what `invert` rests on
    np.testing.assert_array_equal(train.images, readers.read("mnist", real, "train").images)


def test_real_folder_of_60_000_files(real: Path, tmp_path: Path) -> None:
    cifar = load("cifar10-jpeg", real, cache=tmp_path, size=(32, 32))
    assert {part: each.images.shape[0] for part, each in cifar.parts.items()} == {
        "train": 50_000,
        "test": 10_000,
    }
    first = images.decode(
        arrays.image_bytes("cifar10-jpeg", real, "test", 7), size=(32, 32), channels=3
    )
    np.testing.assert_array_equal(cifar.parts["test"].images[7], first.pixels)
    assert cifar.skipped == ()
