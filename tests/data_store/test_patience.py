"""How fast something comes, window by window."""

from collections.abc import Callable

import pytest

from data_store import patience
from data_store.patience import PATIENCE, Pace


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = 100.0

    def pass_time(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(patience, "monotonic", lambda: now)
    return pass_time


def test_whole_windows_count(pass_time: Callable[[float], None]) -> None:
    pace = Pace(10.0)
    pace.add(100)
    pass_time(5)
    assert pace.rate == 20
    assert not pace.is_under(1e9)  # too early to say
    pass_time(5)
    assert not pace.is_under(10)
    assert pace.rate == 10
    pass_time(10)
    assert pace.is_under(10)  # nothing came since
    assert pace.rate == 0


def test_slow_lines_are_let_through() -> None:
    assert PATIENCE.least * 8 < 9600  # bits per second of a modem
    assert PATIENCE.silent_seconds >= PATIENCE.window_seconds
