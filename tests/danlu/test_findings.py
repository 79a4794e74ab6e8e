from typing import Any

import pytest
from rich.console import Console

from danlu import findings

FILES = [f"cat/{number}.jpg" for number in range(30)]
REPORT = {
    "images": 270,
    "bytes": 12_000_000,
    "classes": 2,
    "parts": [
        {"part": "train", "images": 240, "classes": [{"name": "cat", "images": 200},
                                                     {"name": "dog", "images": 40}]},
        {"part": "test", "images": 30, "classes": [{"name": "cat", "images": 30}]},
    ],
    "sizes": {"smallest": 32, "largest": 4000},
    "formats": {"JPEG": 260, "PNG": 10},
    "modes": {"RGB": 270},
    "findings": [
        {"code": "unreadable_images", "total": 30, "message": "30 files cannot be read",
         "advice": "Send them again.",
         "items": [{"file": name, "code": "not_an_image", "message": "It [b] is none."}
                   for name in FILES]},
        {"code": "wrong_extension", "total": 1, "message": "1 file is another", "advice": "Rename.",
         "items": [{"file": "dog/1.png", "format": "JPEG"}]},
        {"code": "same_image_in_parts", "total": 1, "message": "1 image is in train too",
         "advice": "Remove it.",
         "items": [{"file": "test/1.jpg", "part": "test", "twin": "train/2.jpg",
                    "twin_part": "train"}]},
        {"code": "duplicates", "total": 1, "message": "1 image is there twice", "advice": "Remove.",
         "items": [{"files": ["cat/1.jpg", "cat/2.jpg"]}]},
        {"code": "tiny_classes", "total": 1, "message": "1 of 2 classes is tiny", "advice": "Add.",
         "items": [{"class": "dog", "images": 4}]},
        {"code": "imbalance", "total": 2, "message": "'cat' has more", "advice": "Balance.",
         "items": []},
    ],
}  # fmt: skip


def printed(shown: Any) -> str:
    console = Console(width=200, force_terminal=False)
    with console.capture() as capture:
        console.print(shown)
    return " ".join(capture.get().split())


def test_a_line_or_two_for_each_finding(made: Any) -> None:
    text = printed(findings.in_short(made.dataset(report=REPORT), told=["imbalance"]))
    for words in (
        "pets 2 classes 240 train, 30 test 640×480 colour",
        "30 files cannot be read: cat/0.jpg, cat/1.jpg, cat/2.jpg and 27 more Send them again.",
        "1 file is another: dog/1.png (JPEG) Rename.",
        "1 image is in train too: test/1.jpg = train/2.jpg Remove it.",
        "1 image is there twice: cat/1.jpg = cat/2.jpg Remove.",
        "1 of 2 classes is tiny: dog (4 images) Add.",
    ):
        assert words in text
    assert "Balance." not in text


def test_everything_by_name(made: Any) -> None:
    text = printed(findings.shown(made.dataset(report=REPORT)))
    for words in (
        "12.0 MB sides from 32 to 4,000 px JPEG 260, PNG 10 RGB 270",
        "class train test cat 200 30 dog 40 0",
        "cat/19.jpg It [b] is none. and 10 more",
        "'cat' has more Balance.",
    ):
        assert words in text
    assert "cat/20.jpg" not in text


def test_of_many_classes_the_smallest(made: Any) -> None:
    classes = [{"name": f"c{number}", "images": 100 - number} for number in range(50)]
    report = {**REPORT, "findings": [], "parts": [{"part": "train", "classes": classes}]}
    text = printed(findings.shown(made.dataset(report=report)))
    assert "the smallest of 50 classes train c49 51 c48 52" in text
    assert "c29" not in text


@pytest.mark.parametrize(("count", "end"), [(3, "c2"), (30, "c19 …")])
def test_a_set_that_nobody_examined(made: Any, count: int, end: str) -> None:
    names = [f"c{number}" for number in range(count)]
    assert printed(findings.shown(made.dataset(classes=names, channels=1))).endswith(end)
