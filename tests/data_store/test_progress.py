"""Progress is told at once, at the end, and not too often."""

from data_store.progress import paced


def test_first_and_last_are_always_told() -> None:
    told: list[tuple[str, int, int]] = []
    advance = paced(lambda *call: told.append(call), "decoding", 1000)
    for _ in range(1000):
        advance(1)
    assert told[0] == ("decoding", 0, 1000)
    assert told[-1] == ("decoding", 1000, 1000)
    assert len(told) < 10
