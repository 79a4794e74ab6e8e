"""Messages survive whatever pieces a socket makes of them."""

import math

import pytest

from app.inference.messages import Reader, pack

SAID = [
    ({"do": "load", "checkpoint": "猫"}, [b"", b"\0\1", b"x" * 1000]),
    ({"number": 1 << 40, "nothing": None, "list": [1.5, {"a": True}]}, []),
    ({}, [b"only bytes"]),
]


@pytest.mark.parametrize("step", [1, 7, 12, 13, 1000, 10_000])
def test_pieces_of_any_size(step):
    sent = b"".join(b"".join(pack(said, data)) for said, data in SAID)
    reader, found = Reader(), []
    for start in range(0, len(sent), step):
        found += reader.feed(sent[start : start + step])
    assert found == [(said, b"".join(data)) for said, data in SAID]
    assert list(reader.feed(b"")) == []


def test_what_is_no_number_is_carried_too():
    [(said, _)] = Reader().feed(b"".join(pack({"a": math.inf, "b": math.nan})))
    assert said["a"] == math.inf
    assert math.isnan(said["b"])
