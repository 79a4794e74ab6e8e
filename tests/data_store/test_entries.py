"""Names in archives become paths that stay where they belong."""

import unicodedata

import pytest

from data_store import entries
from data_store.entries import Name
from problems import Problem


def path(text: str) -> str:
    return entries.path(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat/1.jpg", "cat/1.jpg"),
        ("./cat//1.jpg", "cat/1.jpg"),
        ("cat\\1.jpg", "cat/1.jpg"),
        ("cat/..1.jpg", "cat/..1.jpg"),
        ("...", "..."),
        (unicodedata.normalize("NFD", "café/é.png"), "café/é.png"),
    ],
)
def test_a_path_is_written_in_one_way(text: str, expected: str) -> None:
    assert path(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("../1.jpg", "cat/../../1.jpg", "cat/..", "..", "cat\\..\\..\\1.jpg"),
        *("/etc/passwd", "\\\\server\\share\\1.jpg", "\\1.jpg"),
        *("C:\\1.jpg", "c:/1.jpg", "C:1.jpg"),
    ],
)
def test_what_leads_elsewhere_is_refused(text: str) -> None:
    with pytest.raises(Problem) as caught:
        path(text)
    assert caught.value.code == "archive_unsafe"


def test_names_that_say_so_are_utf8_and_the_others_what_they_are() -> None:
    names = [Name("猫".encode(), known=True), Name("狗".encode("gbk"), known=False)]

    read = entries.read(names)

    assert (read.paths, read.encoding) == (["猫", "狗"], "gb18030")


def test_whoever_waits_for_many_names_is_heard() -> None:
    heard: list[None] = []

    entries.read([Name(b"a", known=True)] * 3, lambda: heard.append(None))

    assert len(heard) == 3


def test_a_name_that_is_not_what_it_says_is_refused() -> None:
    with pytest.raises(Problem) as caught:
        entries.read([Name(b"\xff", known=True)])
    assert caught.value.code == "archive_invalid"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("cat/a\n.jpg", "archive_unsafe"),
        ("cat/\x1b[2J.jpg", "archive_unsafe"),
        ("cat/\udcff.jpg", "archive_unsafe"),
        (f"cat/{'x' * 250}.jpg", "archive_invalid"),
        (f"{'猫' * 90}/1.jpg", "archive_invalid"),
        ("/".join(["cat"] * 300), "archive_invalid"),
    ],
)
def test_names_that_cannot_be_written_are_refused(text: str, code: str) -> None:
    with pytest.raises(Problem) as caught:
        entries.check_writable(text)
    assert caught.value.code == code
    assert len(caught.value.detail) < 200


def test_ordinary_names_can_be_written() -> None:
    entries.check_writable(f"{'猫' * 80}/{'x' * 236}.jpg")


def test_some_names_are_one_for_some_systems() -> None:
    assert entries.fold("Cat/STRASSE.JPG") == entries.fold("cat/straße.jpg")
