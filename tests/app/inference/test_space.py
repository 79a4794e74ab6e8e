"""What has to go when there is no memory left for more."""

from pathlib import Path

import pytest

from app.inference.entry import OBJECT_BYTES
from app.inference.peer import Given, Held, Process
from app.inference.space import Space


class Ear:
    """In place of a process."""

    def __init__(self):
        self.heard = []

    def say(self, said, data=()):
        self.heard.append((said["do"], said.get("checkpoint")))


def process(**used: float) -> Process:
    made = Process("cpu")
    made.link = Ear()  # type: ignore[assignment]  # hears as one does
    made.warm = {name: Held(100, "fp32", at) for name, at in used.items()}
    return made


def test_what_was_used_least_lately_goes_first(tmp_path):
    first, second = process(a=3, b=1), process(a=2, c=4)
    Space(tmp_path, 350, [first, second]).make(100)
    assert (list(first.warm), list(second.warm)) == (["a"], ["c"])
    assert first.link.heard == [("unload", "b")]


def test_what_is_in_use_or_was_just_loaded_stays(tmp_path):
    only = process(a=1, b=2, c=3)
    only.take(1, Given("a", images=1, image_bytes=10))
    space = Space(tmp_path, 100, [only])
    space.make(0, beside="b")
    assert list(only.warm) == ["a", "b"]
    assert not space.has(1)


def test_what_is_being_loaded_counts(tmp_path: Path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "model.safetensors").write_bytes(b"x" * 50)
    busy = process(a=1)
    busy.loading = {"d": None}  # type: ignore[dict-item]  # nobody waits
    space = Space(tmp_path, 200 + OBJECT_BYTES, [busy])
    assert space.has(50)
    assert not space.has(51)
    assert space.size("e") == 0


@pytest.mark.parametrize("size", [0, 10**12])
def test_nothing_to_let_go_of(tmp_path, size):
    Space(tmp_path, 1, []).make(size)


def test_all_that_one_does_not_use_can_go(tmp_path):
    one, other = process(a=1, b=2, c=3), process(a=1)
    one.take(1, Given("b", images=1, image_bytes=10))
    space = Space(tmp_path, 1000, [one, other])
    assert space.empty(one)
    assert (set(one.warm), set(other.warm)) == ({"b"}, {"a"})
    assert not space.empty(one)
