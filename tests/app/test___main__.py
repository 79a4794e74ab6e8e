"""The program: it listens at once, stops when told to, and says what is wrong in one line."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import pytest

COMMAND = [sys.executable, "-P", "-m", "app"]


@pytest.fixture
def variables(tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DANLU_")}
    return {**kept, "DANLU_HOME": str(tmp_path / "home")}


def test_it_answers_on_the_socket_it_was_given_and_stops_on_sigterm(variables):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        descriptor = listening.fileno()
        server = subprocess.Popen(
            COMMAND,
            env={**variables, "DANLU_LISTEN_FD": str(descriptor)},
            pass_fds=[descriptor],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            # Whoever comes before it is up waits in the socket's queue.
            response = httpx.get(f"{address}/healthz", timeout=60, trust_env=False)
            assert response.json() == {"status": "ok"}
            # The heaviest that it imports: torchvision's networks, and what they bring along.
            shown = httpx.get(f"{address}/architectures/resnet18", timeout=60, trust_env=False)
            assert shown.json()["layers"]
            told = time.monotonic()
            server.send_signal(signal.SIGTERM)
            out, err = server.communicate(timeout=30)
        finally:
            server.kill()
    assert server.returncode == 0, err
    assert out == ""
    (line,) = err.splitlines()  # nothing of libraries that count what they leave behind
    assert address in line
    assert time.monotonic() - told < 10


def test_a_port_that_is_taken(variables):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            COMMAND,
            env={**variables, "DANLU_PORT": port},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert ended.returncode == 1
    assert port in ended.stderr
    assert "DANLU_PORT" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_setting_that_is_wrong(variables):
    ended = subprocess.run(
        COMMAND,
        env={**variables, "DANLU_PORT": "many"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("DANLU_PORT: ")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"DANLU_API_KEY": "two words"}, "one word"),
        ({"DANLU_API_KEY": "a", "DANLU_API_KEY_FILE": __file__}, "differ"),
        ({"DANLU_API_KEY_FILE": "/no/such/file"}, "cannot be read"),
        ({"DANLU_API_KEY_FILE": "/dev/null"}, "is empty"),
        ({"DANLU_API_KEY": "hush", "DANLU_NO_AUTH": "1"}, "DANLU_NO_AUTH"),
        ({"DANLU_CORS_ORIGINS": "shop.example"}, "https://shop.example"),
    ],
)
def test_a_key_that_cannot_be_one(variables, given, said):
    ended = subprocess.run(
        COMMAND,
        env={**variables, **given},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 2
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    for secret in ("two words", "hush"):
        assert secret not in ended.stderr


@contextmanager
def running(variables):
    """The program on a free port of all addresses, logging JSON."""
    server = subprocess.Popen(
        COMMAND,
        env={
            **variables,
            "DANLU_HOST": "0.0.0.0",
            "DANLU_PORT": "0",
            "DANLU_LOG_FORMAT": "json",
            "DANLU_LOG_LEVEL": "debug",
        },
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield server
    finally:
        server.kill()
        server.communicate()


def test_where_others_reach_it_it_makes_a_key_and_shows_it_once(variables):
    with running(variables) as server:
        first = json.loads(server.stderr.readline())
        port = first["message"].partition(",")[0].rpartition(":")[2]
        shown = json.loads(server.stderr.readline())
        key = shown["message"].partition("/?key=")[2]
        address = f"http://127.0.0.1:{port}"
        asked = {"timeout": 60, "trust_env": False}
        assert httpx.get(f"{address}/jobs", **asked).json()["code"] == "key_missing"
        sent = {"Authorization": f"Bearer {key}"}
        assert httpx.get(f"{address}/jobs?limit=1", headers=sent, **asked).status_code == 200
        page = {"Accept": "text/html"}
        assert httpx.get(f"{address}/?key={key}", headers=page, **asked).status_code == 303
        assert httpx.get(f"{address}/x?q={key}", headers=page, **asked).status_code == 401
        server.send_signal(signal.SIGTERM)
        _, rest = server.communicate(timeout=30)
    lines = [json.loads(line) for line in rest.splitlines()]
    assert len(key) >= 32
    assert key not in first["message"] + rest
    asked_for = [line["message"] for line in lines if line["logger"] == "uvicorn.access"]
    assert [line.partition('"')[2] for line in asked_for] == [
        'GET /jobs HTTP/1.1" 401',
        'GET /jobs?limit=1 HTTP/1.1" 200',
        'GET /?key=*** HTTP/1.1" 303',
        'GET /x?q=*** HTTP/1.1" 401',
    ]
    assert all(line["request_id"] for line in lines if line["logger"] == "uvicorn.access")


def test_who_insists_gets_no_key(variables):
    with running({**variables, "DANLU_NO_AUTH": "1"}) as server:
        port = json.loads(server.stderr.readline())["message"].partition(",")[0].rpartition(":")[2]
        address = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{address}/jobs", timeout=60, trust_env=False).status_code == 200
