import base64

import pytest

from database import pages
from problems import Problem


@pytest.mark.parametrize("place", [(None, "job_1"), (0.1 + 0.2, "job_2"), (1.0, "作业")])
def test_a_cursor_leads_back_to_its_place(place: pages.Place) -> None:
    cursor = pages.cursor_to("-created_at", place)
    assert cursor.isascii()
    assert pages.place_of(cursor, "-created_at") == place


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "nonsense",
        "é",
        "a" * 5,
        encoded("{}"),
        encoded("[1,2]"),
        encoded('["-created_at",true,"job_1"]'),
        encoded('["-created_at","x","job_1"]'),
        encoded('["-created_at",null,7]'),
        encoded('["-created_at",null,"\\ud800"]'),
        encoded('["-created_at",null,["job_1"]]'),
        encoded(f'["-created_at",{10**400},"job_1"]'),
        encoded("[" * 100_000),
        pages.cursor_to("created_at", (None, "job_1")),
    ],
)
def test_any_other_text_is_refused(cursor: str) -> None:
    with pytest.raises(Problem) as caught:
        pages.place_of(cursor, "-created_at")
    assert caught.value.code == "invalid_request"
    assert caught.value.errors[0]["loc"] == ["query", "cursor"]


def test_a_value_is_one_that_a_database_takes() -> None:
    value, _ = pages.place_of(encoded(f'["-created_at",{10**30},"job_1"]'), "-created_at")
    assert isinstance(value, float)


def test_a_list_that_is_no_table_comes_in_parts() -> None:
    names = ["b", "a", "c"]
    first = pages.part(names, "sets", limit=2, cursor=None)
    assert first.items == ["b", "a"]
    rest = pages.part(names, "sets", limit=2, cursor=first.next_cursor)
    assert (rest.items, rest.next_cursor) == (["c"], None)
    assert pages.part(names, "sets", limit=3, cursor=None).next_cursor is None
    assert pages.part([], "sets", limit=3, cursor=None) == pages.Page([], None)


def test_parts_of_a_list_that_changes_meanwhile() -> None:
    first = pages.part(["a", "c", "d", "e"], "sets", limit=2, cursor=None)
    # One came before it; then the last one that was given goes.
    assert pages.part(["a", "b", "c", "d"], "sets", limit=2, cursor=first.next_cursor).items == [
        "d"
    ]
    assert pages.part(["a", "d", "e"], "sets", limit=2, cursor=first.next_cursor).items == [
        *("d", "e")
    ]


@pytest.mark.parametrize(
    "cursor",
    ["nonsense", pages.cursor_to("others", (1, "a")), pages.cursor_to("sets", (None, "a"))],
)
def test_a_part_of_another_list_is_refused(cursor: str) -> None:
    with pytest.raises(Problem):
        pages.part(["a", "b"], "sets", limit=1, cursor=cursor)
