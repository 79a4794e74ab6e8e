"""The files of a part: a sequence of records, made from what is kept once for each folder."""

from array import array

import pytest

from data_store.gallery import Gallery, Image, Shelf

IMAGES = [
    Image("train/a/1.png", 0, 10, 100),
    Image("train/a/2.png", 0, 20, 200),
    Image("train/a/in/1.png", 0, 30, 300),
    Image("train/b\udcff/1.png", 1, 40, 400),
]


def shelf(inside: str, label: int, *images: Image) -> Shelf:
    names = [image.path.removeprefix(inside) for image in images]
    sizes, times = (i.size for i in images), (i.mtime_ns for i in images)
    return Shelf(inside, label, names, array("q", sizes), array("q", times))


def gallery() -> Gallery:
    return Gallery(
        [
            shelf("train/a/", 0, *IMAGES[:2]),
            shelf("train/a/in/", 0, IMAGES[2]),
            shelf("train/none/", 0),
            shelf("train/b\udcff/", 1, IMAGES[3]),
        ]
    )


def test_it_is_a_sequence_of_images() -> None:
    found = gallery()
    assert list(found) == IMAGES
    assert [found[place] for place in range(-4, 4)] == IMAGES + IMAGES
    assert len(found) == 4
    assert (found[1:3], found[::2], found[9:]) == (IMAGES[1:3], IMAGES[::2], [])
    for place in (4, -5):
        with pytest.raises(IndexError):
            found[place]
    assert not Gallery([shelf("a/", 0)])


def test_what_is_known_of_all() -> None:
    found = gallery()
    assert found.disk_bytes == 100
    assert found.counts() == {0: 3, 1: 1}
    assert found.paths("/set") == [f"/set/{image.path}" for image in IMAGES]


def test_other_files_other_words() -> None:
    one, two = IMAGES[:2]
    same = [
        [shelf("train/a/", 0, one, two)],
        [shelf("train/a/", 0, one, two), shelf("train/c/", 0)],
    ]
    others = [
        [shelf("train/a/", 0, one)],
        [shelf("train/a/", 0, two, one)],
        [shelf("train/a/", 1, one, two)],
        [shelf("train/a/", 0, one, two._replace(size=21))],
        [shelf("train/a/", 0, one, two._replace(mtime_ns=201))],
        [shelf("train/a/", 0, one, two._replace(path="train/a/2.PNG"))],
        [shelf("train/", 0, one, two)],
        [shelf("train/a/", 0, one), shelf("train/a/", 0, two)],
    ]
    words = [b"".join(Gallery(shelves).words()) for shelves in same + others]
    assert words[0] == words[1]
    assert len(set(words[1:])) == len(words) - 1
