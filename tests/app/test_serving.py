"""Serving on a real socket: stopping with the parent, long polls let go, databases it knows."""

import json
import os
import socket
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from app import serving
from app.feed import Feed
from database import engine
from settings import Settings


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def polls(monkeypatch) -> threading.Event:
    """Set once a long poll waits for the end of its job."""
    waits, plain = threading.Event(), Feed.wait_for_end

    async def wait_for_end(self: Feed, job_id: str, *, seconds: float) -> bool:
        waits.set()
        return await plain(self, job_id, seconds=seconds)

    monkeypatch.setattr(Feed, "wait_for_end", wait_for_end)
    return waits


def test_the_end_of_the_parent_ends_it_and_lets_long_polls_go(
    tmp_path, listening, polls, monkeypatch
):
    """It waits for none to end by itself, nor for as long as it would for an upload."""
    monkeypatch.setattr(serving, "_DRAIN_SECONDS", 60)
    read_end, write_end = os.pipe()
    settings = Settings(home=tmp_path / "home", parent_fd=read_end)
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(serving.serve(settings, listening)))
    thread.start()
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as http:
        job_id = http.post("/train", json={"dataset": "digits"}).json()["id"]
        with ThreadPoolExecutor(1) as pool:
            poll = pool.submit(http.get, f"/jobs/{job_id}?wait=50")
            assert polls.wait(60)
            began = time.monotonic()
            os.close(write_end)
            assert poll.result(timeout=60).json()["state"] == "queued"
            thread.join(timeout=60)
    assert codes == [0]
    assert time.monotonic() - began < 30
    os.close(read_end)


def test_what_is_not_done_when_it_stops_is_told_so(tmp_path, listening, monkeypatch, caplog):
    """An upload that has minutes to go, say."""
    monkeypatch.setattr(serving, "_DRAIN_SECONDS", 1)
    read_end, write_end = os.pipe()
    settings = Settings(home=tmp_path / "home", parent_fd=read_end)
    thread = threading.Thread(target=serving.serve, args=(settings, listening))
    thread.start()
    address = listening.getsockname()
    while httpx.get(f"http://127.0.0.1:{address[1]}/readyz", timeout=60).status_code != 200:
        time.sleep(0.1)
    with socket.create_connection(address, timeout=60) as client, client.makefile("rb") as answer:
        head = b"POST /train HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
        client.sendall(head + b"Expect: 100-continue\r\n\r\n{")
        assert b" 100 " in answer.readline()  # it is said once the body is waited for
        assert answer.readline() == b"\r\n"
        os.close(write_end)
        head, _, body = answer.read().partition(b"\r\n\r\n")
    thread.join(timeout=30)
    os.close(read_end)
    assert b" 503 " in head.splitlines()[0]
    assert b"x-request-id: " in head
    problem = json.loads(body)
    assert (problem["code"], "Send it again" in problem["hint"]) == ("not_ready", True)
    assert "Traceback" not in caplog.text


def test_a_body_that_is_too_large_is_answered_while_it_is_sent(tmp_path, listening):
    read_end, write_end = os.pipe()
    settings = Settings(home=tmp_path / "home", parent_fd=read_end)
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    thread = threading.Thread(target=serving.serve, args=(settings, listening))
    thread.start()
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as http:
        response = http.post("/train", content=b"x" * 5_000_000)
    os.close(write_end)
    thread.join(timeout=30)
    os.close(read_end)
    assert response.status_code == 413
    assert response.json()["code"] == "body_too_large"


def test_a_database_of_a_newer_danlu_is_left_alone(tmp_path, listening, caplog):
    settings = Settings(home=tmp_path / "home")
    engine.migrate(settings.database)
    file = settings.home / "danlu.sqlite3"
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from_the_future'")
    connection.close()
    before = file.read_bytes()
    assert serving.serve(settings, listening) == 4
    assert "newer" in caplog.text
    assert file.read_bytes() == before


def test_a_home_that_cannot_be_made(tmp_path: Path, listening, caplog):
    (tmp_path / "file").write_text("")
    settings = Settings(home=tmp_path / "file" / "home")
    assert serving.serve(settings, listening) == 1
    assert "home" in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+nosuchdriver://lin:hush@db/danlu",
        "nosuchdatabase://lin:hush@db/danlu",
        "lin:hush@db",
        "sqlite:////dev/null/danlu.sqlite3",
    ],
)
def test_a_database_that_cannot_be_used(tmp_path: Path, listening, caplog, url):
    settings = Settings(home=tmp_path / "home", database_url=url)
    assert serving.serve(settings, listening) == 1
    [record] = [one for one in caplog.records if one.name == serving.log.name]
    assert "database" in record.message
    assert "hush" not in caplog.text
    assert "Traceback" not in caplog.text
