"""Which devices a job gets, and which are left."""

from typing import Any

import pytest

from workers.pool import Need, Pool

GPUS = ["cuda:0", "cuda:1", "cuda:2"]


@pytest.mark.parametrize(
    ("devices", "recipe", "need"),
    [
        (GPUS, None, Need(1, 1)),  # of a job of another kind
        (GPUS, {}, Need(1, 1)),  # of an older danlu
        (GPUS, {"devices": 1}, Need(1, 1)),
        (GPUS, {"devices": 3, "device": "auto"}, Need(3, 3)),
        (GPUS, {"devices": 3, "device": "cuda"}, Need(3, 3)),
        (GPUS, {"devices": 4, "device": "auto"}, Need(1, 1)),  # fails, and need not wait for that
        (GPUS, {"devices": 4, "device": "cpu"}, Need(1, 4)),  # one place, and its cores
        (["cpu"], {"devices": 4, "device": "auto"}, Need(1, 4)),
        (["cpu"], {"devices": 5, "device": "auto"}, Need(1, 1)),
        (["cpu"], {"devices": 2, "device": "cuda"}, Need(1, 1)),
        (["mps"], {"devices": 2, "device": "auto"}, Need(1, 1)),
    ],
)
def test_what_a_job_needs(devices: list[str], recipe: dict[str, Any] | None, need: Need) -> None:
    assert Pool(devices, cores=4).need(recipe) == need


def test_each_process_has_a_device() -> None:
    assert Need(2, 2).spread(("cuda:1", "cuda:2")) == ("cuda:1", "cuda:2")
    assert Need(1, 3).spread(("cpu",)) == ("cpu", "cpu", "cpu")
    assert Need(2, 2).spread(()) == ()


def test_places_are_given_on_devices_of_their_own() -> None:
    pool = Pool(GPUS[:2], cores=4, jobs_per_device=2)

    assert pool.free(3) == ()
    assert pool.free(2) == ("cuda:0", "cuda:1")
    pool.take(("cuda:0",))
    assert pool.free() == ("cuda:1",)  # which nobody has yet
    pool.take(("cuda:1", "cuda:0"))
    assert pool.free(2) == ()
    assert pool.free() == ("cuda:1",)
    pool.take(("cuda:1",))
    assert pool.free() == ()
    pool.give_back(("cuda:0", "cuda:1"))
    assert pool.free(2) == ("cuda:0", "cuda:1")
