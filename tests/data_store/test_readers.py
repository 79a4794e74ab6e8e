"""Built-in sets as torchvision reads them, and the digits of scikit-learn."""

import hashlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import scipy.io
import torchvision.datasets
from sklearn.datasets import load_digits

from data_store import readers
from problems import Problem

Write = Callable[[dict[str, bytes]], Path]


def test_digits_are_scikit_learns(tmp_path: Path) -> None:
    theirs = load_digits()
    expected = np.round(theirs.images * 255 / 16).astype(np.uint8)[..., None]
    in_test = np.arange(1797) % 5 == 0
    for part, chosen in (("train", ~in_test), ("test", in_test)):
        ours = readers.read("digits", tmp_path, part)
        np.testing.assert_array_equal(ours.images, expected[chosen])
        np.testing.assert_array_equal(ours.labels, theirs.target[chosen])


def test_digits_need_neither_scikit_learn_nor_torch() -> None:
    code = (
        "import sys; from pathlib import Path; from data_store import arrays, readers;"
        "readers.read('digits', Path(), 'test');"
        "assert not {'sklearn', 'torch', 'torchvision', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_mnist_without_archives(write: Write, mnist_files: dict[str, bytes]) -> None:
    root = write(mnist_files)
    raw = readers.read("mnist", root, "test")
    assert raw.images.shape == (10, 28, 28, 1)
    assert raw.images.dtype == np.uint8
    assert raw.images.tobytes() == mnist_files["MNIST/raw/t10k-images-idx3-ubyte"][16:]
    assert raw.labels.tolist() == list(range(10))


@pytest.mark.parametrize("left", [0, 3, 1000])
def test_cut_off_idx_files(write: Write, mnist_files: dict[str, bytes], left: int) -> None:
    images = "MNIST/raw/train-images-idx3-ubyte"
    root = write(mnist_files | {images: mnist_files[images][:left]})
    with pytest.raises(Problem, match="damaged") as caught:
        readers.read("mnist", root, "train")
    assert caught.value.code == "dataset_invalid"


@pytest.mark.parametrize("labels", [np.arange(19) % 10, np.arange(20)])
def test_labels_that_do_not_fit(write: Write, mnist_files, idx, labels: np.ndarray) -> None:
    root = write(mnist_files | {"MNIST/raw/train-labels-idx1-ubyte": idx(labels)})
    with pytest.raises(Problem, match="labels") as caught:
        readers.read("mnist", root, "train")
    assert caught.value.code == "dataset_invalid"


@pytest.fixture
def cifar(tmp_path: Path) -> tuple[Any, np.ndarray]:
    """torchvision's class with the md5s of pickles made here, and the pixels in them."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), np.uint8)
    made = {
        "data_batch_1": {"data": pixels.reshape(6, -1), "labels": [0, 1, 2, 3, 4, 9]},
        "test_batch": {"data": pixels[:2].reshape(2, -1), "labels": [5, 6]},
        "batches.meta": {"label_names": list("abcdefghij")},
    }
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    md5 = {}
    for name, content in made.items():
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        md5[name] = hashlib.md5(data).hexdigest()

    class TinyCIFAR(torchvision.datasets.CIFAR10):
        train_list: ClassVar = [["data_batch_1", md5["data_batch_1"]]]
        test_list: ClassVar = [["test_batch", md5["test_batch"]]]
        meta: ClassVar = {**torchvision.datasets.CIFAR10.meta, "md5": md5["batches.meta"]}

    return TinyCIFAR, pixels.transpose(0, 2, 3, 1)


def test_cifar(cifar: tuple[Any, np.ndarray], tmp_path: Path) -> None:
    kind, pixels = cifar
    raw = readers.read_with(kind, tmp_path, "train", classes=10)
    np.testing.assert_array_equal(raw.images, pixels)
    assert raw.labels.tolist() == [0, 1, 2, 3, 4, 9]
    assert readers.read_with(kind, tmp_path, "test", classes=10).labels.tolist() == [5, 6]


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("unpickled"),)


def test_a_foreign_pickle_is_never_opened(
    cifar: tuple[Any, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar-10-batches-py/data_batch_1").write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(Problem, match="corrupted") as caught:
        readers.read_with(cifar[0], tmp_path, "train", classes=10)
    assert caught.value.code == "dataset_invalid"
    assert not (tmp_path / "unpickled").exists()


def test_svhn(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 4), np.uint8)
    file = tmp_path / "test_32x32.mat"
    scipy.io.savemat(file, {"X": pixels, "y": np.array([[10], [1], [9], [2]], np.uint8)})

    class TinySVHN(torchvision.datasets.SVHN):
        split_list: ClassVar = {"test": ["", file.name, hashlib.md5(file.read_bytes()).hexdigest()]}

    raw = readers.read_with(TinySVHN, tmp_path, "test", classes=10)
    np.testing.assert_array_equal(raw.images, pixels.transpose(3, 0, 1, 2))
    assert raw.labels.tolist() == [0, 1, 9, 2]
