"""Images added to a data set."""

from collections.abc import Callable
from pathlib import Path

import pytest

from data_store import merging
from data_store.merging import Merged
from problems import Problem

Write = Callable[[dict[str, bytes]], Path]

OLD = {"cat/1.jpg": b"one", "dog/1.jpg": b"two"}


@pytest.fixture
def merge(write: Write, tmp_path: Path) -> Callable[..., Merged]:
    def merge(old: dict[str, bytes], new: dict[str, bytes]) -> Merged:
        write({f"old/{path}": data for path, data in old.items()})
        root = write({f"new/{path}": data for path, data in new.items()})
        return merging.merge(root / "old", root / "new", root / "both", lambda: None)

    return merge


@pytest.fixture
def both(tmp_path: Path) -> Callable[[], dict[str, bytes]]:
    """What the new folder holds."""

    def both() -> dict[str, bytes]:
        root = tmp_path / "root/both"
        return {
            file.relative_to(root).as_posix(): file.read_bytes()
            for file in root.rglob("*")
            if file.is_file()
        }

    return both


def test_images_and_classes_are_added(merge: Callable[..., Merged], both, tmp_path: Path) -> None:
    merged = merge(OLD, {"cat/2.jpg": b"three", "cow/1.jpg": b"four"})

    assert both() == OLD | {"cat/2.jpg": b"three", "cow/1.jpg": b"four"}
    assert merged == Merged(frozenset({"cat/2.jpg", "cow/1.jpg"}), present=0, renamed=0)
    root = tmp_path / "root"
    assert (root / "both/cat/1.jpg").samefile(root / "old/cat/1.jpg")  # no copy
    assert (root / "old/dog/1.jpg").read_bytes() == b"two"


def test_the_same_name_is_the_same_image_or_gets_another(
    merge: Callable[..., Merged], both
) -> None:
    old = OLD | {"cat/1-2.jpg": b"taken"}

    merged = merge(old, {"cat/1.jpg": b"other", "dog/1.jpg": b"two"})

    assert both() == old | {"cat/1-3.jpg": b"other"}
    assert merged == Merged(frozenset({"cat/1-3.jpg"}), present=1, renamed=1)


def test_an_image_that_was_renamed_before_is_not_added_again(
    merge: Callable[..., Merged], both
) -> None:
    merged = merge(OLD | {"cat/1-2.jpg": b"other"}, {"cat/1.jpg": b"other"})

    assert merged == Merged(frozenset(), present=1, renamed=0)


def test_names_that_some_systems_take_for_one_are_one(merge: Callable[..., Merged], both) -> None:
    merge(OLD, {"Cat/2.jpg": b"three", "DOG/1.JPG": b"four"})

    assert both() == OLD | {"cat/2.jpg": b"three", "dog/1-2.jpg": b"four"}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            {"cat/1.jpg": b"1", "dog/1.jpg": b"2", "readme.txt": b"r"},
            {"train/cat/2.jpg": b"3", "train/dog/2.jpg": b"4", "test/cat/3.jpg": b"5"},
            {
                "train/cat/1.jpg": b"1",
                "train/dog/1.jpg": b"2",
                "train/cat/2.jpg": b"3",
                "train/dog/2.jpg": b"4",
                "test/cat/3.jpg": b"5",
                "readme.txt": b"r",
            },
        ),
        (
            {"cat/1.jpg": b"1", "dog/1.jpg": b"2"},
            {"Test/cat/3.jpg": b"5"},
            {"train/cat/1.jpg": b"1", "train/dog/1.jpg": b"2", "test/cat/3.jpg": b"5"},
        ),
        (
            {"training/cat/1.jpg": b"1", "training/dog/1.jpg": b"2", "valid/cat/1.jpg": b"3"},
            {"cat/2.jpg": b"4"},
            {
                "training/cat/1.jpg": b"1",
                "training/dog/1.jpg": b"2",
                "valid/cat/1.jpg": b"3",
                "training/cat/2.jpg": b"4",
            },
        ),
        (
            {"training/cat/1.jpg": b"1", "training/dog/1.jpg": b"2", "valid/cat/1.jpg": b"3"},
            {"train/cat/2.jpg": b"4", "train/dog/2.jpg": b"5", "val/dog/2.jpg": b"6"},
            {
                "training/cat/1.jpg": b"1",
                "training/dog/1.jpg": b"2",
                "valid/cat/1.jpg": b"3",
                "training/cat/2.jpg": b"4",
                "training/dog/2.jpg": b"5",
                "valid/dog/2.jpg": b"6",
            },
        ),
    ],
)
def test_parts_meet(
    merge: Callable[..., Merged],
    both,
    old: dict[str, bytes],
    new: dict[str, bytes],
    expected: dict[str, bytes],
) -> None:
    merge(old, new)

    assert both() == expected


def test_what_is_known_of_the_old_set_stays_with_it(merge: Callable[..., Merged], both) -> None:
    merge(OLD | {".danlu/report.json": b"{}"}, {"cat/2.jpg": b"three"})

    assert both() == OLD | {"cat/2.jpg": b"three"}


def test_links_of_the_old_set_are_followed(write: Write, both) -> None:
    root = write({"old/cat/1.jpg": b"one", "far/1.jpg": b"two", "new/cat/2.jpg": b"three"})
    (root / "old/dog").symlink_to(root / "far")
    (root / "old/cat/3.jpg").symlink_to(root / "far/1.jpg")

    merging.merge(root / "old", root / "new", root / "both", lambda: None)

    assert both() == {
        "cat/1.jpg": b"one",
        "cat/2.jpg": b"three",
        "cat/3.jpg": b"two",
        "dog/1.jpg": b"two",
    }
    assert not any(path.is_symlink() for path in (root / "both").rglob("*"))


def test_where_there_are_no_hard_links_files_are_copied(
    merge: Callable[..., Merged], both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)

    merge(OLD, {"cat/2.jpg": b"three"})

    assert both() == OLD | {"cat/2.jpg": b"three"}


def test_to_what_is_no_data_set_nothing_is_added(write: Write) -> None:
    root = write({"old/cat/1.jpg": b"one"})

    with pytest.raises(Problem) as caught:
        merging.classes(root / "old")

    assert caught.value.code == "dataset_invalid"


def test_ticks_may_stop_it(write: Write) -> None:
    root = write({f"old/{path}": data for path, data in OLD.items()} | {"new/cat/2.jpg": b""})

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merging.merge(root / "old", root / "new", root / "both", stop)
