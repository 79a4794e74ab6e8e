"""Uploads on their way to disk: whole and hashed, or nothing at all."""

import hashlib
import os
import time
from pathlib import Path

import anyio
import pytest

from app import arrivals
from app.arrivals import Arrival
from data_store.limits import SPARE_BYTES
from problems import Problem


def receive(folder, pieces, **given):
    async def run():
        async with Arrival(folder, **({"most": 10**9, "announced": None} | given)) as arrival:
            for piece in pieces:
                await arrival.write(piece)
            return await arrival.keep()

    return anyio.run(run)


def test_an_upload_in_pieces_is_one_file(tmp_path):
    pieces = [os.urandom(300_000) for _ in range(9)]
    archive = receive(tmp_path / "uploads", pieces)
    assert archive.path.read_bytes() == b"".join(pieces)
    assert archive.sha256 == hashlib.sha256(b"".join(pieces)).hexdigest()
    assert archive.size == 2_700_000
    assert [path.name for path in (tmp_path / "uploads").iterdir()] == [archive.path.name]
    archive.discard()
    archive.discard()
    assert not archive.path.exists()


def test_what_comes_slowly_is_written_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setattr(arrivals, "_HELD_SECONDS", 0.0)

    async def run():
        async with Arrival(tmp_path, most=100, announced=None) as arrival:
            await arrival.write(b"slow")
            return [path.read_bytes() for path in tmp_path.iterdir()]

    assert anyio.run(run) == [b"slow"]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"most": 999_999}, "body_too_large"),
        ({"announced": 5_000_000, "free": lambda _: SPARE_BYTES + 4_000_000}, "disk_full"),
        ({"free": lambda _: SPARE_BYTES + 500_000}, "disk_full"),
    ],
)
def test_what_has_no_room_is_refused_and_leaves_nothing(tmp_path, given, code):
    with pytest.raises(Problem) as caught:
        receive(tmp_path, [bytes(500_000)] * 4, **given)
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_on_the_way(tmp_path):
    free = iter([10**10, 10**10, SPARE_BYTES, SPARE_BYTES])
    with pytest.raises(Problem, match="no room"):
        receive(tmp_path, [bytes(1_500_000)] * 3, free=lambda _: next(free))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("buffering", "size"), [(0, 2_000_000), (-1, 2_000_000), (-1, 5)])
def test_a_disk_that_says_that_it_is_full(tmp_path, monkeypatch, buffering, size):
    monkeypatch.setattr(arrivals, "_HELD_BYTES", 5)

    async def run(full):
        async with Arrival(tmp_path, most=10**9, announced=None) as arrival:
            arrival._file.close()
            arrival._file = full
            await arrival.write(bytes(size))

    full = Path("/dev/full")
    with full.open("wb", buffering=buffering) as file, pytest.raises(Problem) as caught:
        anyio.run(run, file)
    assert caught.value.code == "disk_full"
    assert list(tmp_path.iterdir()) == []


def test_an_upload_of_nothing(tmp_path):
    with pytest.raises(Problem) as caught:
        receive(tmp_path, [])
    assert caught.value.code == "empty_file"
    assert list(tmp_path.iterdir()) == []


def test_what_nobody_asks_for_is_swept(tmp_path):
    hours_ago = time.time() - 7200
    for name in ("wanted", "forgotten", "dead.part", "new", "alive.part"):
        (tmp_path / name).write_bytes(b"x")
        if name not in ("new", "alive.part"):
            os.utime(tmp_path / name, (hours_ago, hours_ago))
    arrivals.sweep(tmp_path, {"wanted"})
    assert {path.name for path in tmp_path.iterdir()} == {"wanted", "new", "alive.part"}
    arrivals.sweep(tmp_path / "missing", ())
