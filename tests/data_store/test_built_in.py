"""The table is torchvision's, number by number."""

import json

import pytest
import torchvision.datasets

from data_store.built_in import SETS

IDX = ("mnist", "fashion_mnist", "kmnist")
CIFAR = ("cifar10", "cifar100")


@pytest.mark.parametrize("name", IDX)
def test_idx_sets_are_torchvisions(name: str) -> None:
    ours = SETS[name]
    theirs = getattr(torchvision.datasets, ours.reader)
    assert [(file.name, file.md5) for file in ours.files] == theirs.resources
    assert ours.folder == f"{theirs.__name__}/raw"
    assert [file.holds for file in ours.files] == [
        (f"{ours.folder}/{name.removesuffix('.gz')}",) for name, _ in theirs.resources
    ]


@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist"])
def test_classes_are_torchvisions(name: str) -> None:
    ours = SETS[name]
    assert list(ours.classes) == getattr(torchvision.datasets, ours.reader).classes


def test_mnist_classes_are_its_digits() -> None:
    theirs = torchvision.datasets.MNIST.classes
    assert list(SETS["mnist"].classes) == [name.split(" - ")[0] for name in theirs]


@pytest.mark.parametrize("name", CIFAR)
def test_cifar_is_torchvisions(name: str) -> None:
    ours = SETS[name]
    theirs = getattr(torchvision.datasets, ours.reader)
    (file,) = ours.files
    members = [*theirs.train_list, *theirs.test_list, [theirs.meta["filename"]]]
    assert (file.name, file.md5) == (theirs.filename, theirs.tgz_md5)
    assert file.holds == tuple(f"{theirs.base_folder}/{member}" for member, *_ in members)
    assert ours.mirrors[0] + file.name == theirs.url


def test_svhn_is_torchvisions() -> None:
    theirs = torchvision.datasets.SVHN.split_list
    ours = SETS["svhn"]
    assert [[ours.mirrors[0] + file.name, file.name, file.md5] for file in ours.files] == [
        theirs["train"],
        theirs["test"],
    ]


@pytest.mark.parametrize("name", SETS)
def test_every_set_is_complete(name: str) -> None:
    ours = SETS[name]
    assert len(set(ours.classes)) == len(ours.classes) == (100 if name == "cifar100" else 10)
    assert set(ours.counts) == {"train", "test"}
    assert bool(ours.files) == bool(ours.mirrors) == (name != "digits")
    assert all(mirror.endswith("/") for mirror in ours.mirrors)
    assert json.loads(json.dumps(ours.defaults)) == ours.defaults


def test_cifar100_classes_are_in_alphabetical_order() -> None:
    assert list(SETS["cifar100"].classes) == sorted(SETS["cifar100"].classes)


def test_only_svhn_is_never_flipped() -> None:
    flipped = {name for name, s in SETS.items() if "Flip" in json.dumps(s.defaults)}
    assert flipped == {"cifar10", "cifar100"}
