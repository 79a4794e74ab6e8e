"""Loading torch once, in the background, and what those who wait are told."""

import asyncio

import pytest

from app.warmup import Warmup
from problems import Problem


def test_who_waits_goes_on_when_it_is_loaded():
    warmup = Warmup()
    assert warmup.state == "loading"
    warmup.start()
    warmup.start()
    asyncio.run(warmup.wait())
    assert warmup.state == "ok"
    asyncio.run(warmup.wait())


def test_who_waits_too_long_is_told_so():
    with pytest.raises(Problem, match="loading") as caught:
        asyncio.run(Warmup().wait(seconds=0.01))
    assert caught.value.code == "not_ready"
