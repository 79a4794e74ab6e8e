"""What a process has, does and owes."""

import time

from app.inference.peer import Given, Held, Process


class Ear:
    """In place of a process."""

    def __init__(self):
        self.heard = []

    def say(self, said, data=()):
        self.heard.append(said)


def peer() -> Process:
    made = Process("cpu")
    made.link = Ear()  # type: ignore[assignment]  # hears as one does
    made.warm = {"a": Held(1, "fp32", 0.0)}
    return made


def test_requests_are_counted_by_their_images():
    one = peer()
    one.take(1, Given("a", images=3, image_bytes=10))
    one.take(2, Given("a", images=2, image_bytes=10))
    assert (one.images, one.owes, one.uses("a")) == (5, True, True)
    one.give_back(1)
    one.give_back(1)  # again is no error
    assert (one.images, one.owes) == (2, True)
    one.give_back(2)
    assert (one.images, one.owes, one.uses("a")) == (0, False, False)


def test_taking_a_request_is_using_the_model():
    one = peer()
    before = time.monotonic()
    one.take(1, Given("a", images=1, image_bytes=10))
    assert one.warm["a"].used >= before


def test_what_was_dropped_is_owed_until_it_is_acknowledged():
    one = peer()
    one.take(7, Given("a", images=1, image_bytes=10))
    one.drop(7)
    assert (one.images, one.image_bytes, one.owes) == (1, 10, True)
    assert one.link.heard == [{"do": "drop", "number": 7}]
    one.give_back(7)
    assert (one.images, one.image_bytes, one.owes) == (0, 0, False)


def test_it_is_full_by_number_and_by_size():
    for given in (Given("a", images=128, image_bytes=10), Given("a", 1, 64_000_000)):
        one = peer()
        one.take(1, Given("a", images=100, image_bytes=10_000_000))
        assert not one.is_full
        one.take(2, given)
        assert one.is_full
        one.drop(2)
        assert one.is_full, "it has that to read yet"
        one.give_back(2)
        assert not one.is_full


def test_it_is_not_taken_to_hang_for_the_time_that_nothing_was_asked_of_it():
    one = peer()
    before = time.monotonic()
    one.heard = before - 1000
    one.take(1, Given("a", images=1, image_bytes=10))
    assert one.heard >= before


def test_unloading_is_told():
    one = peer()
    one.unload("a")
    assert (one.warm, one.link.heard) == ({}, [{"do": "unload", "checkpoint": "a"}])
