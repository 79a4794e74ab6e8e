"""What is wrong, in words. Most of it is tried on real files in test_doctor.py."""

import numpy as np
import pytest

from data_store import findings
from data_store.findings import Images
from data_store.inspection import Unreadable
from data_store.report import ClassCount, Finding, PartCounts


@pytest.mark.parametrize(
    ("path", "format", "right"),
    [
        ("a/1.jpg", "JPEG", True),
        ("a/1.JPEG", "JPEG", True),
        ("a/1.jpg", "PNG", False),
        ("a/1.pgm", "PPM", True),
        ("a/1.tiff", "TIFF", True),
        ("a/1.bmp", "GIF", False),
        ("a/1.xyz", "SOMETHING NEW", True),
    ],
)
def test_an_ending_is_of_a_format(path: str, format: str, right: bool) -> None:
    assert findings.is_named_rightly(path, format) is right


def counts(part: str, **classes: int) -> PartCounts:
    numbers = [ClassCount(name, images) for name, images in classes.items()]
    some = [images for images in classes.values() if images]
    return PartCounts(part, sum(some), max(some) / min(some), numbers)


def test_classes_are_counted() -> None:
    parts = [counts("train", cat=50, dog=9, cow=3), counts("test", cat=1, dog=0, cow=0)]

    found = {each.code: each for each in findings.of_counts(parts)}

    assert list(found) == ["tiny_classes", "imbalance", "missing_classes"]
    assert found["tiny_classes"].items == (
        {"class": "cow", "images": 3},
        {"class": "dog", "images": 9},
    )
    assert "'cat' has 50 training images and 'cow' 3" in found["imbalance"].message
    assert [item["class"] for item in found["missing_classes"].items] == ["dog", "cow"]
    assert list(findings.of_counts([counts("train", cat=30, dog=10)])) == []


def test_one_and_many_are_said_rightly() -> None:
    def said(count: int) -> str:
        files = {f"{n}.jpg": Unreadable(b"", 0, "not_an_image", "No.") for n in range(count)}
        return next(findings.of_files(files, [])).message

    assert said(1) == "1 file cannot be read and is left out"
    assert said(2000) == "2,000 files cannot be read and are left out"


def images(*places: tuple[str, str, int], digests: list[int], shapes: list[int]) -> Images:
    """`places` are (part, class, thumb's seed)."""
    names = ["cat", "dog"]
    return Images(
        paths=[f"{part}/{name}/{n}.jpg" for n, (part, name, _) in enumerate(places)],
        parts=[part for part, _, _ in places],
        labels=np.array([names.index(name) for _, name, _ in places]),
        classes=names,
        digests=np.array(digests, np.uint64).reshape(-1, 1),
        shapes=np.array(shapes, np.uint64),
        thumbs=np.stack(
            [
                np.random.default_rng(seed).integers(0, 256, (64, 3), dtype=np.uint8)
                for _, _, seed in places
            ]
        ),
    )


def by_code(some: Images) -> dict[str, Finding]:
    return {each.code: each for each in findings.of_copies(some)}


def test_a_copy_in_another_part_is_a_pair() -> None:
    found = by_code(
        images(
            ("train", "cat", 0),
            ("train", "cat", 0),
            ("val", "cat", 0),
            ("val", "dog", 1),
            ("test", "dog", 1),
            digests=[7, 7, 7, 8, 8],
            shapes=[1, 1, 1, 1 << 20, 1 << 20],
        )
    )

    assert list(found) == ["same_image_in_parts", "duplicates"]
    assert found["same_image_in_parts"].items == (
        {
            "file": "val/cat/2.jpg",
            "part": "val",
            "twin": "train/cat/0.jpg",
            "twin_part": "train",
        },
        {"file": "test/dog/4.jpg", "part": "test", "twin": "val/dog/3.jpg", "twin_part": "val"},
    )
    assert "2 images of val and test are in train and val too" in (
        found["same_image_in_parts"].message
    )
    assert found["duplicates"].items == ({"files": ["train/cat/0.jpg", "train/cat/1.jpg"]},)


def test_copies_under_two_classes_are_no_duplicates() -> None:
    found = by_code(images(("train", "cat", 0), ("train", "dog", 0), digests=[7, 7], shapes=[1, 1]))

    assert list(found) == ["same_image_in_classes"]
    assert found["same_image_in_classes"].items == (
        {"files": ["train/cat/0.jpg", "train/dog/1.jpg"]},
    )


def test_near_copies_are_told_apart_from_copies() -> None:
    found = by_code(
        images(
            ("train", "cat", 0),
            ("train", "cat", 0),
            ("test", "cat", 0),
            digests=[7, 8, 9],
            shapes=[0b1, 0b11, 0b111],
        )
    )

    assert list(found) == ["similar_image_in_parts", "near_duplicates"]
    assert found["similar_image_in_parts"].items[0]["file"] == "test/cat/2.jpg"
    assert found["near_duplicates"].items == ({"files": ["train/cat/0.jpg", "train/cat/1.jpg"]},)
