"""Connections of slow, rude and half gone clients, over real sockets."""

import contextlib
import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app import serving
from app.protocol import Limits
from settings import Settings

pytestmark = pytest.mark.xdist_group("protocol")  # what they share is made once
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
JSON = (
    b"POST /train?dry_run=true HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s"
)


@dataclass(frozen=True)
class Listening:
    """Where the server is, and connections to it."""

    port: int
    home: Path

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Limits], Listening]]:
    """Starts servers; stops them at the end."""
    with contextlib.ExitStack() as stack:

        def start(limits: Limits) -> Listening:
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = listening.getsockname()[1]
            reading, writing = os.pipe()
            home = tmp_path_factory.mktemp("protocol") / "home"
            settings = Settings(home=home, parent_fd=reading)
            thread = threading.Thread(
                target=serving.serve, args=(settings, listening), kwargs={"limits": limits}
            )
            thread.start()
            stack.callback(os.close, reading)
            stack.callback(thread.join, 30)
            stack.callback(os.close, writing)
            return Listening(port, home)

        yield start


@pytest.fixture(scope="module")
def server(run) -> Listening:
    """One that is patient, also with who has shut down before torch is loaded."""
    return run(Limits(half_closed_seconds=60.0))


@pytest.fixture(scope="module")
def hasty(run) -> Listening:
    """One that waits for nobody, with room for five."""
    return run(Limits(head_seconds=1.0, half_closed_seconds=0.3, connections=5))


def until_closed(connection: socket.socket) -> bytes:
    received = b""
    with connection, contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65_536):
            received += piece
    return received


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of the next answer, whole: its head and its body may come by themselves."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, response.read()


def alive(server: Listening) -> bool:
    with server.connect() as connection:
        connection.sendall(GET)
        return answer(connection)[0] == 200


@pytest.mark.parametrize(
    "begun", [b"", b"\r\n", b"G", GET[:-2], b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "]
)
def test_a_head_that_never_ends_is_given_up(hasty, begun):
    connection = hasty.connect()
    connection.sendall(begun)
    assert until_closed(connection) == b""


def test_a_head_that_trickles_is_given_up(hasty):
    connection = hasty.connect()
    began = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - began < 20:
            connection.sendall(b"X")
            time.sleep(0.02)
    connection.close()
    assert time.monotonic() - began < 10


def test_the_second_head_of_a_connection_is_given_up_too(hasty):
    connection = hasty.connect()
    connection.sendall(GET)
    assert answer(connection)[0] == 200
    connection.sendall(b"GET /healthz")
    assert until_closed(connection) == b""


def test_who_answers_late_may_be_asked_in_time(hasty):
    """The limit is for heads: a request that is there may take as long as it takes."""
    connection = hasty.connect()
    recipe = b'{"dataset": "digits"}'
    train = (JSON % (len(recipe), recipe)).replace(b"?dry_run=true", b"")
    connection.sendall(train)
    status, body = answer(connection)
    assert status == 202, body
    job_id = json.loads(body)["id"]
    connection.sendall(GET.replace(b"/healthz", b"/jobs/%s?wait=1" % job_id.encode()))
    began = time.monotonic()
    assert answer(connection)[0] == 200
    assert time.monotonic() - began >= 0.9
    connection.close()


def test_an_idle_connection_outlives_its_client(server):
    """httpx lets go after 5 s: who hung up just then would lose the request."""
    with server.connect() as idle:
        for pause in (0, 5.5):
            time.sleep(pause)
            idle.sendall(GET)
            assert answer(idle)[0] == 200


def test_idle_connections_leave_room_for_others(server):
    idle = [server.connect() for _ in range(500)]
    began = time.monotonic()
    assert all(alive(server) for _ in range(20))
    assert time.monotonic() - began < 5
    for connection in idle:
        connection.close()


def test_more_connections_than_there_is_room_for_are_sent_away(hasty):
    crowd = [hasty.connect() for _ in range(30)]
    assert [until_closed(connection) for connection in crowd] == [b""] * 30
    assert alive(hasty)


def test_a_head_without_measure_is_refused(server):
    connection = server.connect()
    with contextlib.suppress(ConnectionError):
        connection.sendall(GET[:-2] + b"X: " + b"x" * 2_000_000)
    received = until_closed(connection)
    assert b"malformed_request" in received or received == b""
    assert alive(server)


def test_trailers_without_measure_are_refused(server):
    connection = server.connect()
    head = b"POST /train HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.sendall(head + b"2\r\n{}\r\n0\r\nX: ")
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 50_000_000:
            sent += connection.send(b"x" * 65_536)
    connection.close()
    assert sent < 50_000_000
    assert alive(server)


@pytest.mark.parametrize(
    "rude",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_not_http_is_a_problem(server, rude):
    connection = server.connect()
    connection.sendall(rude)
    head, _, body = until_closed(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"x-content-type-options: nosniff" in head
    assert b"x-request-id: req_" in head
    assert b'"code": "malformed_request"' in body
    assert b'"request_id": "req_' in body


@pytest.mark.parametrize(
    "request_", [GET, JSON % (21, b'{"dataset": "digits"}')], ids=["GET", "POST"]
)
def test_who_shuts_down_after_asking_gets_the_answer(server, request_):
    connection = server.connect()
    connection.sendall(request_)
    connection.shutdown(socket.SHUT_WR)
    assert until_closed(connection).startswith(b"HTTP/1.1 200")


def test_who_shuts_down_and_waits_long_is_let_go(hasty):
    connection = hasty.connect()
    recipe = b'{"dataset": "digits"}'
    connection.sendall((JSON % (len(recipe), recipe)).replace(b"?dry_run=true", b""))
    job_id = json.loads(answer(connection)[1])["id"]
    connection.sendall(GET.replace(b"/healthz", b"/jobs/%s?wait=50" % job_id.encode()))
    connection.shutdown(socket.SHUT_WR)
    began = time.monotonic()
    assert until_closed(connection) == b""
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("part", [0, 10])
def test_who_is_gone_in_the_middle_leaves_no_traceback(server, part, caplog):
    for linger in (False, True):
        connection = server.connect()
        connection.sendall(JSON % (1000, b"{" * part))
        if linger:  # the connection is reset, not closed
            now = b"\1\0\0\0\0\0\0\0"
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
        connection.close()
    assert alive(server)
    time.sleep(0.1)
    assert not [record for record in caplog.records if record.exc_info]


def test_several_requests_in_one_go(server):
    connection = server.connect()
    last = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    connection.sendall(GET + GET + last)
    assert until_closed(connection).count(b"HTTP/1.1 200 OK") == 3


@pytest.mark.parametrize("announced", [b"Content-Length: 5000000", b"Transfer-Encoding: chunked"])
def test_an_upload_that_is_cut_off_leaves_nothing(server, announced):
    uploads = server.home / "uploads"
    before = set(uploads.glob("*")) if uploads.exists() else set()
    connection = server.connect()
    head = b"PUT /datasets/pets HTTP/1.1\r\nHost: localhost\r\n" + announced + b"\r\n\r\n"
    chunk = b"%x\r\n" % 2_000_000 if b"chunked" in announced else b""
    connection.sendall(head + chunk + bytes(2_000_000))
    wait_until(lambda: len(set(uploads.glob("*")) - before) == 1)
    connection.close()
    wait_until(lambda: set(uploads.glob("*")) == before)
    assert alive(server)


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)
