"""Progress is told at once, at the end, and not too often."""

import pytest

from data_store import progress
from data_store.progress import Rate, paced


def test_first_and_last_are_always_told() -> None:
    told: list[tuple[str, int, int]] = []
    advance = paced(lambda *call: told.append(call), "decoding", 1000)
    for _ in range(1000):
        advance(1)
    assert told[0] == ("decoding", 0, 1000)
    assert told[-1] == ("decoding", 1000, 1000)
    assert len(told) < 10


def test_what_was_done_before_counts() -> None:
    told: list[tuple[str, int, int]] = []
    paced(lambda *call: told.append(call), "downloading", 10, done=4)(6)
    assert told == [("downloading", 4, 10), ("downloading", 10, 10)]


def test_what_is_soon_over_may_be_left_untold(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 50.0
    monkeypatch.setattr(progress, "monotonic", lambda: now)
    told: list[tuple[str, int, int]] = []
    advance = paced(lambda *call: told.append(call), "checking", 10, at_once=False)
    now += 0.06
    advance(4)
    assert told == []
    now += 0.06
    advance(4)
    advance(2)
    assert told == [("checking", 8, 10)]


def test_a_rate_is_that_of_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 50.0
    monkeypatch.setattr(progress, "monotonic", lambda: now)
    rate = Rate()
    assert rate(1000) is None  # was there before
    now += 0.5
    assert rate(1100) is None
    now += 0.5
    assert rate(1200) == 200
    for _ in range(20):
        now += 0.5
        last = rate(1200)
    assert last == 0
    assert rate(300) is None  # thrown away
    now += 1
    assert rate(310) == 10
