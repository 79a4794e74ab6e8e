"""Data sets with faults, examined."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_store import arrays, doctor
from data_store.doctor import Examined
from data_store.report import Finding
from problems import Problem
from tests import heic

Write = Callable[[dict[str, bytes]], Path]


def photo(seed: int, format: str = "JPEG", side: int = 64, **how: Any) -> bytes:
    """An image of a few large shapes, another for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    image = Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)
    image.resize((side, side)).save(file, format, **how)
    return file.getvalue()


def examine(path: Path, **how: Any) -> Examined:
    return doctor.examine(path, lambda *_: None, **how)


def findings(examined: Examined) -> dict[str, Finding]:
    return {each.code: each for each in examined.report.findings}


@pytest.fixture
def faulty(write: Write) -> Path:
    """Two classes of 30 and 12 training images with one fault of every kind."""
    files = {f"train/cat/{n:02}.jpg": photo(n) for n in range(30)}
    files |= {f"train/dog/{n:02}.jpg": photo(100 + n) for n in range(8)}
    files |= {f"test/cat/{n:02}.jpg": photo(200 + n) for n in range(4)}
    files |= {
        "train/cat/copy.jpg": files["train/cat/03.jpg"],
        "train/cat/cut.jpg": photo(1)[:400],
        "train/cat/png.jpg": photo(300, "PNG"),
        "train/dog/text.jpg": b"no image at all",
        "train/dog/cat.jpg": files["train/cat/05.jpg"],
        "train/dog/large.png": photo(103, "PNG", side=128),
        "test/cat/07.jpg": files["train/cat/07.jpg"],
        "test/cat/08.jpg": photo(8, quality=95),
        "train/dog/empty.png": b"",
        "train/.hidden/x.jpg": b"",
    }
    return write({f"pets/{name}": data for name, data in files.items()}) / "pets"


@pytest.mark.parametrize("processes", [0, 2])
def test_every_fault_is_named(faulty: Path, processes: int) -> None:
    examined = examine(faulty, processes=processes)

    found = findings(examined)
    assert {item["file"]: item["code"] for item in found["unreadable_images"].items} == {
        "train/cat/cut.jpg": "truncated_image",
        "train/dog/empty.png": "empty_file",
        "train/dog/text.jpg": "not_an_image",
    }
    assert list(examined.unreadable) == [
        *("train/cat/cut.jpg", "train/dog/empty.png", "train/dog/text.jpg")
    ]
    assert found["wrong_extension"].items == ({"file": "train/cat/png.jpg", "format": "PNG"},)
    assert found["duplicates"].items == ({"files": ["train/cat/03.jpg", "train/cat/copy.jpg"]},)
    assert found["near_duplicates"].items == (
        {"files": ["train/dog/03.jpg", "train/dog/large.png"]},
    )
    assert found["same_image_in_classes"].items == (
        {"files": ["train/cat/05.jpg", "train/dog/cat.jpg"]},
    )
    pair = {"part": "test", "twin_part": "train"}
    assert found["same_image_in_parts"].items == (
        {"file": "test/cat/07.jpg", "twin": "train/cat/07.jpg", **pair},
    )
    assert found["similar_image_in_parts"].items == (
        {"file": "test/cat/08.jpg", "twin": "train/cat/08.jpg", **pair},
    )
    assert [item["class"] for item in found["missing_classes"].items] == ["dog"]
    assert found.keys() == {
        *("unreadable_images", "wrong_extension", "duplicates", "near_duplicates", "imbalance"),
        *("same_image_in_classes", "same_image_in_parts", "similar_image_in_parts"),
        "missing_classes",
    }


def test_the_report_counts_what_can_be_read(faulty: Path) -> None:
    report = json.loads(json.dumps(examine(faulty).report.as_dict()))

    assert (report["images"], report["classes"]) == (48, 2)
    train, test = report["parts"]
    assert (train["part"], train["images"], train["imbalance"]) == ("train", 42, 3.2)
    assert train["classes"] == [{"name": "cat", "images": 32}, {"name": "dog", "images": 10}]
    assert test["classes"] == [{"name": "cat", "images": 6}, {"name": "dog", "images": 0}]
    assert report["formats"] == {"JPEG": 46, "PNG": 2}
    assert report["modes"] == {"RGB": 48}
    assert report["sizes"] == {
        "smallest": 64,
        "median_width": 64,
        "median_height": 64,
        "largest": 128,
        "distinct": 2,
        "frequent": [
            {"width": 64, "height": 64, "images": 47},
            {"width": 128, "height": 128, "images": 1},
        ],
    }


def test_a_good_set_has_no_findings(write: Write) -> None:
    files = {f"pets/{'cd'[n % 2]}/{n}.jpg": photo(n) for n in range(24)}

    assert findings(examine(write(files) / "pets")) == {}


def test_photos_as_phones_send_them(write: Write) -> None:
    """One of them renamed, as some programs do; read for training as they are for the report."""
    shots = [heic.encoded(Image.open(io.BytesIO(photo(n))), tile_size=64) for n in range(24)]
    files = {f"pets/{'cd'[n % 2]}/{n}.HEIC": shot for n, shot in enumerate(shots)}
    files["pets/c/0.jpg"] = files.pop("pets/c/0.HEIC")
    files["pets/d/cut.heif"] = shots[1][:-9]
    examined = examine(write(files) / "pets")

    assert examined.report.as_dict()["formats"] == {"HEIF": 24}
    found = findings(examined)
    assert set(found) == {"wrong_extension", "unreadable_images"}
    assert found["wrong_extension"].items == ({"file": "c/0.jpg", "format": "HEIF"},)
    assert found["unreadable_images"].items[0]["code"] == "truncated_image"


def test_flat_images_are_no_near_duplicates(write: Write) -> None:
    shades = {f"pets/{'cd'[n % 2]}/{n}.png": _saved(Image.new("L", (16, 16), n)) for n in range(40)}

    assert findings(examine(write(shades) / "pets")) == {}


def _saved(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_the_version_is_that_of_a_training(faulty: Path, tmp_path: Path) -> None:
    def trained() -> str:
        loaded = arrays.load(
            "pets",
            root=faulty.parent,
            cache=tmp_path / "cache",
            size=(8, 8),
            channels=1,
            progress=lambda *_: None,
        )
        return loaded.version

    examined = examine(faulty)
    assert examined.version() == trained()
    for path in examined.unreadable:
        (faulty / path).unlink()
    assert examined.version(without=examined.unreadable) == trained() != examined.version()


def test_a_class_of_which_nothing_can_be_read_is_refused(write: Write) -> None:
    root = write({"pets/cat/1.jpg": photo(1), "pets/dog/1.jpg": b"text", "pets/dog/2.jpg": b""})

    with pytest.raises(Problem) as caught:
        examine(root / "pets")

    assert caught.value.code == "dataset_invalid"
    assert "class 'dog'" in caught.value.detail
    assert "'dog/1.jpg'" in caught.value.detail


def test_a_folder_with_one_class_is_refused_by_the_name_that_it_gets(write: Write) -> None:
    root = write({".import-1/cat/1.jpg": photo(1)})

    with pytest.raises(Problem) as caught:
        examine(root / ".import-1", name="pets")

    assert caught.value.detail == "'pets' has only the class 'cat'; it takes two."


def test_progress_is_told_in_images(write: Write) -> None:
    told: list[tuple[str, int, int]] = []
    root = write({f"pets/{'cd'[n % 2]}/{n}.jpg": photo(n) for n in range(4)})

    doctor.examine(root / "pets", lambda *how: told.append(how))

    assert (told[0], told[-1]) == (("checking", 0, 4), ("checking", 4, 4))
