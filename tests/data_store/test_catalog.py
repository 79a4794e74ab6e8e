"""What data sets there are and what is known of them."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from data_store import arrays, catalog, sources
from data_store.built_in import SETS
from problems import Problem

Write = Callable[[dict[str, bytes]], Path]


@pytest.fixture
def root(write: Write, png) -> Path:
    sets = {f"{name}/{c}/1.png": png() for name in ("my-cats", "花", "Two words") for c in "ab"}
    no_sets = ["MNIST/raw/x-ubyte", "cifar-10-batches-py/data_batch_1", ".hidden/a/1.png"]
    no_sets += [
        "loose/1.png",
        "one/class/1.png",
        "file.png",
        "cifar_10/a/1.png",
        "cifar_10/b/1.png",
    ]
    return write(sets | {name: png() for name in no_sets})


def test_names(root: Path) -> None:
    assert catalog.names(root) == [*SETS, "Two words", "my-cats", "花"]


def test_names_without_a_folder(tmp_path: Path) -> None:
    assert catalog.names(tmp_path / "nothing") == list(SETS)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("CIFAR10", "cifar10"),
        ("cifar-10", "cifar10"),
        ("Fashion-MNIST", "fashion_mnist"),
        ("MyCats", "my-cats"),
        ("my_cats", "my-cats"),
        ("花", "花"),
        ("two words", "Two words"),
        ("MNIST", "mnist"),
    ],
)
def test_canonical(root: Path, asked: str, meant: str) -> None:
    assert catalog.canonical(asked, root) == meant


@pytest.mark.parametrize(
    "asked", ["", ".", "..", "../root/my-cats", "my-cats/a", "/etc", "x\0y", ".hidden", "file.png"]
)
def test_names_never_leave_the_root(root: Path, asked: str) -> None:
    for ask in (catalog.canonical, catalog.facts, arrays.is_local):
        with pytest.raises(Problem) as caught:
            ask(asked, root)
        assert caught.value.code == "dataset_unknown"


def test_a_near_miss_says_what_was_meant(root: Path) -> None:
    with pytest.raises(Problem) as caught:
        catalog.canonical("minst", root)
    assert "'mnist'" in caught.value.hint


def test_facts_of_a_folder(write: Write, png) -> None:
    names = ["train/cat/1.png", "train/dog/1.png", "train/dog/2.png", "val/cat/9.png"]
    root = write({f"pets/{name}": png(size=(300, 200), mode="L") for name in names})
    facts = catalog.facts("PETS", root)
    assert (facts.name, facts.origin, facts.classes) == ("pets", "folder", ("cat", "dog"))
    assert facts.counts == {"train": 3, "val": 1}
    assert (facts.height, facts.width, facts.channels) == (200, 300, 1)
    assert facts.available
    assert facts.version is None
    assert facts.defaults["image_size"] == 224


@pytest.mark.parametrize("name", SETS)
def test_facts_of_built_in_sets(tmp_path: Path, name: str) -> None:
    facts = catalog.facts(name, tmp_path, cache=tmp_path)
    assert (facts.name, facts.origin, facts.version) == (name, "built_in", None)
    assert facts.available == (name == "digits")
    assert facts.defaults == SETS[name].defaults
    facts.defaults["optimizer"]["lr"] = 9
    assert catalog.facts(name, tmp_path).defaults["optimizer"]["lr"] != 9


def test_a_folder_is_available_as_torchvision_unpacked_it(write: Write, mnist_files) -> None:
    root = write(mnist_files)
    assert catalog.facts("mnist", root).available
    assert arrays.is_local("mnist", root)
    assert not arrays.is_local("kmnist", root)


def age(folder: Path, *, files: float = 1e9) -> None:
    """Long unchanged: what is found in it is believed, until a time changes."""
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (0, files if path.is_file() else 1e9))


@pytest.mark.parametrize("old", [False, True])
def test_facts_follow_the_folder(write: Write, png, old: bool) -> None:
    root = write({f"pets/{name}": png() for name in ("a/1.png", "b/1.png")})
    if old:
        age(root / "pets")
    assert catalog.facts("pets", root).counts == {"train": 2}
    assert catalog.facts("pets", root).counts == {"train": 2}
    write({"pets/b/2.png": png()})
    assert catalog.facts("pets", root).counts == {"train": 3}
    write({"pets/c/1.png": png()})
    assert catalog.facts("pets", root).classes == ("a", "b", "c")
    for path in ("c/1.png", "c"):
        (root / "pets" / path).unlink() if "." in path else (root / "pets" / path).rmdir()
    assert catalog.facts("pets", root).classes == ("a", "b")


@pytest.mark.parametrize("files", [1e9, 9e9])
def test_facts_follow_files_that_are_written_over(write: Write, png, files: float) -> None:
    names = [f"pets/{label}/1.png" for label in "ab"]
    root = write({name: png(size=(12, 10), mode="L") for name in names})
    age(root / "pets", files=files)
    facts = catalog.facts("pets", root)
    assert (facts.height, facts.width, facts.channels) == (10, 12, 1)
    write({name: png(size=(300, 200)) for name in names})
    facts = catalog.facts("pets", root)
    assert (facts.height, facts.width, facts.channels) == (200, 300, 3)
    assert facts.defaults["image_size"] == 224


def test_a_folder_that_has_not_changed_is_not_read_again(
    write: Write, png, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write({f"pets/{label}/1.png": png() for label in "ab"})
    age(root / "pets", files=9e9)  # as an archive from another time zone may say
    facts = catalog.facts("pets", root)
    monkeypatch.setattr("data_store.folder.scan", lambda _: pytest.fail("it was read"))
    assert catalog.facts("pets", root) == facts


def test_a_key_is_of_all_files_as_they_lie(write: Write, png) -> None:
    names = [f"pets/{label}/{number:02}.png" for label in "ab" for number in range(65)]
    root = write(dict.fromkeys(names, png(1)))
    age(root / "pets")
    facts, key = catalog.facts("pets", root), catalog.key("pets", root)
    assert catalog.key("pets", root) == key
    write({names[1]: png(2)})  # not among those that facts are told by
    assert catalog.facts("pets", root) == facts
    assert catalog.key("pets", root) != key


def test_keys_are_of_all_sets_that_are_there(write: Write, png, mnist_files) -> None:
    root = write(mnist_files | {f"pets/{label}/1.png": png() for label in "ab"})
    write({"junk/a/1.png": b"junk"})
    keys = {sources.built_in_key(name, root) for name in ("digits", "mnist")}
    assert catalog.keys(root) == keys | {catalog.key("pets", root)}


@pytest.mark.parametrize(
    ("name", "words"), [("loose", "no images in one folder"), ("one", "only the class 'class'")]
)
def test_a_folder_that_cannot_be_used_says_why(root: Path, name: str, words: str) -> None:
    with pytest.raises(Problem, match=words) as caught:
        catalog.facts(name, root)
    assert caught.value.code == "dataset_invalid"


def test_a_folder_of_junk(write: Write) -> None:
    root = write({"junk/a/1.png": b"junk", "junk/b/1.png": b"junk"})
    with pytest.raises(Problem, match="None of the images"):
        catalog.facts("junk", root)
    assert "junk" not in catalog.names(root)


def test_a_folder_is_as_imported_while_its_images_are(write: Write, png) -> None:
    root = write({f"pets/{name}/1.png": png() for name in "ab"})
    hidden = root / "pets" / ".danlu"
    hidden.mkdir()
    assert not catalog.is_as_imported("pets", root), "no report"
    report = {"parts": [{"part": "train", "images": 2}], "bytes": 2 * len(png())}
    (hidden / "report.json").write_text(json.dumps(report))
    assert catalog.is_as_imported("pets", root)
    for path in [root / "pets", *(root / "pets").rglob("*")]:
        os.utime(path, (1, 1))
    assert catalog.is_as_imported("pets", root), "copied elsewhere"
    (root / "pets" / "a" / "2.png").write_bytes(png())
    assert not catalog.is_as_imported("pets", root), "one more"
    (hidden / "report.json").write_text('{"parts": 1}')
    assert not catalog.is_as_imported("pets", root), "somebody else's"
    assert not catalog.is_as_imported("gone", root)
