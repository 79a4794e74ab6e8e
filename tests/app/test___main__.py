"""The program: it listens at once, stops when told to, and says what is wrong in one line."""

import os
import signal
import socket
import subprocess
import sys
import time

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
            told = time.monotonic()
            server.send_signal(signal.SIGTERM)
            out, err = server.communicate(timeout=30)
        finally:
            server.kill()
    assert server.returncode == 0, err
    assert out == ""
    assert address in err
    assert "Traceback" not in err
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


def test_an_address_that_others_reach_is_refused(variables):
    ended = subprocess.run(
        COMMAND,
        env={**variables, "DANLU_HOST": "0.0.0.0", "DANLU_PORT": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "DANLU_NO_AUTH" in ended.stderr
    assert "Traceback" not in ended.stderr
