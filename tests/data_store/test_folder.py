"""Folders per class: ImageFolder's order, the three layouts, and what is no data set."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from data_store import folder
from problems import Problem

Write = Callable[[dict[str, bytes]], Path]


def paths(scan: folder.Scan, part: str = "train") -> list[tuple[str, str]]:
    return [(image.path, scan.classes[image.label]) for image in scan.parts[part]]


def test_classes_and_files_are_those_of_image_folder(write: Write, png) -> None:
    names = ["b/2.png", "b/10.jpg", "B/x.PNG", "a b/1.jpeg", "猫/一.bmp", "b/in/z.webp"]
    names += ["b/in-side/q.tif", "b/in/deep/1.png", "b/notes.txt", "é/1.pgm", "a/1.ppm"]
    root = write({f"set/{name}": png() for name in names})
    theirs = ImageFolder(root / "set")
    ours = folder.scan(root / "set")
    assert list(ours.classes) == theirs.classes
    assert [(str(root / "set" / i.path), i.label) for i in ours.parts["train"]] == theirs.samples
    assert ours.parts["train"][0].size == len(png())


def test_hidden_files_and_leftovers_are_not_seen(write: Write, png) -> None:
    seen = {"set/cat/1.gif": png(), "set/dog/1.avif": png(), "set/dog/2.HEIC": png()}
    unseen = ["cat/.1.png", "cat/._1.gif", ".ipynb_checkpoints/1.png", "__MACOSX/cat/1.png"]
    unseen += ["cat/Thumbs.db", "dog/.DS_Store", "dog/@eaDir/1.png", "dog/__MACOSX/1.png", "1.png"]
    root = write(seen | {f"set/{name}": png() for name in unseen})
    expected = [("cat/1.gif", "cat"), ("dog/1.avif", "dog"), ("dog/2.HEIC", "dog")]
    assert paths(folder.scan(root / "set")) == expected


def test_whether_image_folder_finds_the_same(write: Write, png) -> None:
    plain = {"set/train/cat/1.png": png(), "set/train/dog/in/2.JPG": png(), "set/1.txt": b""}
    assert folder.is_image_folder(write(plain) / "set")
    for more in ("train/cat/1.gif", "train/cat/._1.png", "train/dog/@eaDir/1.png"):
        name = more.replace("/", "-")
        root = write({f"{name}/{file}": png() for file in (*plain, f"set/{more}")})
        assert not folder.is_image_folder(root / name / "set")


def test_where_parts_lie(write: Write, png) -> None:
    files = ["a/cat/1.png", "a/dog/1.png", "b/Train/cat/1.png", "b/Train/dog/1.png"]
    root = write({name: png() for name in [*files, "b/valid/cat/1.png"]})
    assert folder.places(root / "a") == {"train": "."}
    assert folder.places(root / "b") == {"train": "Train", "val": "valid"}
    with pytest.raises(Problem, match="cannot be read"):
        folder.places(root / "c")


@pytest.mark.parametrize(
    ("val", "test"), [("val", "test"), ("valid", "Test"), ("validation", "testing")]
)
def test_parts(write: Write, png, val: str, test: str) -> None:
    names = ["train/a/1.png", "train/b/1.png", f"{val}/b/2.png", f"{test}/a/3.png", "other/x/1.png"]
    scan = folder.scan(write({f"set/{name}": png() for name in names}) / "set")
    assert scan.classes == ("a", "b")
    assert {part: paths(scan, part) for part in scan.parts} == {
        "train": [("train/a/1.png", "a"), ("train/b/1.png", "b")],
        "val": [(f"{val}/b/2.png", "b")],
        "test": [(f"{test}/a/3.png", "a")],
    }


def test_a_test_part_without_labels_is_left_out(write: Write, png) -> None:
    names = ["train/a/1.png", "train/b/1.png", "test/1.png"]
    scan = folder.scan(write({f"set/{name}": png() for name in names}) / "set")
    assert set(scan.parts) == {"train"}


def test_a_class_may_be_called_train(write: Write, png) -> None:
    scan = folder.scan(write({f"set/{c}/1.png": png() for c in ("train", "bus")}) / "set")
    assert scan.classes == ("bus", "train")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["1.png"], "holds no images"),
        (["raw/train-images-idx3-ubyte"], "holds no images"),
        (["a/1.png"], "only the class 'a'"),
        (["a/1.png", "b/1.txt"], "no image in the class 'b'"),
        (["train/a/1.png", "train/b/1.png", "val/c/1.png"], "'val/c/1.png' is of a class"),
        (["val/a/1.png", "test/a/1.png"], "no train folder"),
    ],
)
def test_what_cannot_be_trained_on(write: Write, png, names: list[str], words: str) -> None:
    root = write({f"set/{name}": png() for name in names})
    with pytest.raises(Problem, match=words) as caught:
        folder.scan(root / "set")
    assert caught.value.code == "dataset_invalid"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="cannot be read") as caught:
        folder.scan(tmp_path / "gone")
    assert caught.value.code == "dataset_invalid"


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_are_followed_but_not_in_circles(write: Write, png) -> None:
    root = write({"set/a/1.png": png(), "set/b/1.png": png(), "far/2.png": png()})
    (root / "set/a/far").symlink_to(root / "far")
    (root / "far/back").symlink_to(root / "set/a")
    (root / "set/a/gone.png").symlink_to(root / "nothing")
    found = [path for path, _ in paths(folder.scan(root / "set"))]
    assert found == ["a/1.png", "a/far/2.png", "b/1.png"]


@pytest.mark.skipif(os.name == "nt", reason="file names are no bytes there")
def test_names_that_are_no_utf8(write: Write, png) -> None:
    root = write({"set/a/1.png": png()})
    strange = os.fsencode(root / "set") + b"/b\xff"
    try:
        os.mkdir(strange)  # noqa: PTH102 - the name is bytes
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (Path(os.fsdecode(strange)) / "1.png").write_bytes(png())
    scan = folder.scan(root / "set")
    assert scan.classes == ("a", "b\ufffd")
    assert (root / "set" / scan.parts["train"][1].path).read_bytes() == png()


def test_more_classes_than_a_report_can_hold_are_refused(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "MOST_CLASSES", 3)
    root = write({f"pets/{number}/1.jpg": b"" for number in range(4)})
    with pytest.raises(Problem, match="There are 4 classes; danlu takes at most 3"):
        folder.scan(root / "pets")


def test_a_set_may_have_another_name_than_its_folder(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="'pets' holds no images"):
        folder.scan(tmp_path, name="pets")


@pytest.mark.parametrize(
    ("name", "part"),
    [("Train", "train"), ("valid", "val"), ("TESTING", "test"), ("cat", None), ("trains", None)],
)
def test_some_names_are_of_parts(name: str, part: str | None) -> None:
    assert folder.part_of(name) == part
