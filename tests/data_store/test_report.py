"""The doctor's report as a record."""

import json

from data_store import report
from data_store.report import MOST_ITEMS, Report, Sizes


def test_lists_are_cut_off_and_say_how_long_they_were() -> None:
    found = report.finding("x", 1000, "Many", "Do.", ({"file": str(n)} for n in range(1000)))

    assert (found.total, len(found.items)) == (1000, MOST_ITEMS)
    assert report.files([str(n) for n in range(3)]) == {"files": ["0", "1", "2"]}
    long = report.files([str(n) for n in range(101)])
    assert (len(long["files"]), long["total"]) == (100, 101)


def test_a_finding_becomes_a_warning_that_names_some() -> None:
    items = [
        {"file": "a/1.jpg", "code": "x"},
        {"file": "b/2.jpg", "twin": "a/2.jpg"},
        {"files": ["c/1.jpg", "c/2.jpg", "c/3.jpg"]},
        {"class": "cat", "images": 2},
    ]

    warning = report.finding("x", 9, "Something is wrong", "Do that.", items).warning()

    assert warning == {
        "code": "x",
        "message": "Something is wrong (a/1.jpg, b/2.jpg = a/2.jpg, c/1.jpg = c/2.jpg, cat and 5 "
        "more). Do that.",
    }
    assert report.finding("x", 2, "No names", "Do.").warning()["message"] == "No names. Do."


def test_a_report_is_json() -> None:
    sizes = Sizes(1, 2, 2, 4, 1, [report.Size(2, 2, 5)])
    whole = Report(5, 10, 2, [], sizes, {"RGB": 5}, {"PNG": 5}, [report.finding("x", 1, "", "")])

    shown = json.loads(json.dumps(whole.as_dict()))

    assert shown["sizes"]["frequent"] == [{"width": 2, "height": 2, "images": 5}]
    assert shown["findings"][0]["code"] == "x"
