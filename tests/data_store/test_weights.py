"""Weights from a server on this machine: checksum, patience, and none that answers."""

import errno
import hashlib
import os
import socket
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from data_store import unfinished, weights
from data_store.patience import PATIENCE
from data_store.weights import Wanted
from problems import Problem
from tests.data_store.mirrors import NOBODY, SOON, Mirror, no_such_name
from tests.data_store.mirrors import served as serving

Served = tuple[str, dict[str, bytes], list[str]]
DATA = os.urandom(300_000)


def wanted(address: str, data: bytes = DATA) -> Wanted:
    checksum = hashlib.sha256(data).hexdigest()[:8]
    name = f"net-{checksum}.pth"
    return Wanted(name=name, url=address + name, sha256=checksum, bytes=len(data))


def nothing(phase: str, done: int, total: int) -> None:
    pass


def unavailable(one: Wanted, folder: Path, **how: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        weights.fetch(one, folder, nothing, **{"patience": SOON, **how})
    assert (caught.value.code, caught.value.status) == ("weights_unavailable", 503)
    return caught.value


def test_a_file_is_fetched_and_found_again(served: Served, tmp_path: Path) -> None:
    address, files, asked = served
    one = wanted(address)
    files[f"/{one.name}"] = DATA
    told: list[tuple[str, int, int]] = []

    path = weights.fetch(one, tmp_path / "weights", lambda *call: told.append(call))

    assert path == tmp_path / "weights" / one.name
    assert path.read_bytes() == DATA
    assert told[0] == ("downloading", 0, len(DATA))
    assert told[-1] == ("downloading", len(DATA), len(DATA))
    assert weights.find(one, [tmp_path / "elsewhere", tmp_path / "weights"]) == path
    assert len(asked) == 1


def test_only_the_right_file_is_found(tmp_path: Path) -> None:
    one = wanted(NOBODY)
    assert weights.find(one, [tmp_path]) is None
    (tmp_path / one.name).write_bytes(DATA[:-1])
    assert weights.find(one, [tmp_path]) is None
    assert "; the one that is there is another" in unavailable(one, tmp_path).hint
    (tmp_path / one.name).write_bytes(DATA)
    assert weights.find(one, [tmp_path]) == tmp_path / one.name


def test_another_file_is_not_taken(served: Served, tmp_path: Path) -> None:
    address, files, _ = served
    one = wanted(address)
    files[f"/{one.name}"] = DATA[::-1]
    assert "its sha256 is wrong" in unavailable(one, tmp_path).detail
    files[f"/{one.name}"] = DATA * 10  # it is not even read to its end
    assert "it is too long" in unavailable(one, tmp_path).detail
    assert list(tmp_path.iterdir()) == []


def test_nobody_answers(served: Served, tmp_path: Path) -> None:
    assert "404 Not Found" in unavailable(wanted(served[0]), tmp_path).detail
    one = wanted(NOBODY)
    problem = unavailable(one, tmp_path)
    assert "ConnectError" in problem.detail
    assert problem.hint.startswith(f"Put {one.name} (about 0 MB, sha256 {one.sha256}…)")
    assert one.url in problem.hint
    assert str(tmp_path) in problem.hint


def test_a_machine_without_internet_fails_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    one = wanted("http://example.invalid/")
    began = monotonic()
    assert "ConnectError" in unavailable(one, tmp_path, patience=PATIENCE).detail
    assert monotonic() - began < PATIENCE.silent_seconds - 5


def test_what_came_in_too_little_time_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    one = wanted(NOBODY)
    target = tmp_path / one.name  # a second is over when all has come that is to come
    monkeypatch.setattr(
        weights, "monotonic", lambda: 1.1 if unfinished.size(target) == 100_000 else 0.0
    )
    with serving(Mirror({f"/weights/{one.name}": DATA}, then="stall", after=100_000)) as mirror:
        first = {"mirrors": [mirror.url]}
        problem = unavailable(one, tmp_path, seconds=1.0, patience=PATIENCE, **first)
        assert problem.detail == f"{one.name} did not come within 1 s."
        assert "; 100,000 bytes have come, and the next try goes on there)" in problem.hint
        mirror.then = "all"
        told: list[int] = []
        weights.fetch(one, tmp_path, lambda _, done, __: told.append(done), **first)
        assert mirror.asked[1:] == [(f"/weights/{one.name}", 100_000)]
    assert told[0] == 100_000
    assert (tmp_path / one.name).read_bytes() == DATA


def test_stopped_on_the_way(served: Served, tmp_path: Path) -> None:
    address, files, _ = served
    one = wanted(address)
    files[f"/{one.name}"] = DATA

    def stop(phase: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        weights.fetch(one, tmp_path, stop)
    assert [path.name for path in tmp_path.iterdir()] == [f"{one.name}.part"]


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, "disk_full"), (errno.EACCES, "weights_unavailable")],
)
def test_a_disk_that_takes_nothing(
    number: int, code: str, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, files, _ = served
    one = wanted(address)
    files[f"/{one.name}"] = DATA

    def refuses(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(unfinished.os, "write", refuses)
    with pytest.raises(Problem) as caught:
        weights.fetch(one, tmp_path, nothing)
    assert caught.value.code == code
