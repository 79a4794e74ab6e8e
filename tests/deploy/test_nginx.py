"""danlu behind the real nginx, with deploy/nginx.conf as it is but for ports."""

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import numpy as np
import pytest
from PIL import Image

from app.serving import IDLE_SECONDS
from danlu import Client

HOUSE = Path(__file__).parent.parent.parent
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
KEY = "a-key-for-tests"

# In one process: it starts danlu twice.
pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("nginx"),
    pytest.mark.skipif(NGINX is None, reason="nginx is missing: apt-get install nginx-light"),
]


@contextmanager
def danlu(home: Path, *options: str) -> Iterator[int]:
    """`danlu serve` with a key, known by the names of the example; its port."""
    command = [sys.executable, "-P", "-m", "danlu", "serve", "--port", "0", "--json", *options]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("DANLU_")}
    variables |= {
        "DANLU_HOME": str(home),
        "DANLU_API_KEY": KEY,
        "DANLU_ALLOWED_HOSTS": "danlu.example,www.example",
    }
    with (
        home.with_suffix(".log").open("wb") as log,
        subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=log) as running,
    ):
        try:
            assert running.stdout is not None
            url = json.loads(running.stdout.readline())["url"]
            wait_ready(url, worker="--no-worker" not in options)
            yield int(url.rpartition(":")[2])
        finally:
            running.terminate()


def wait_ready(url: str, *, worker: bool) -> None:
    wanted = "ok" if worker else "none"
    with httpx.Client(base_url=url, trust_env=False) as http:
        while http.get("/readyz", timeout=60).json().get("worker") != wanted:
            time.sleep(0.1)


@contextmanager
def nginx(folder: Path, site: str) -> Iterator[int]:
    """nginx with this file as its only site; the port that its servers listen on."""
    assert NGINX is not None
    folder.mkdir()
    # It takes the socket over, as from the nginx that it replaces: a port that was free a moment
    # ago may be another test's.
    listening = socket.create_server(("127.0.0.1", 0))
    port, descriptor = listening.getsockname()[1], listening.fileno()
    (folder / "site.conf").write_text(re.sub(r"listen 80;", f"listen 127.0.0.1:{port};", site))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"{kind}_temp_path {folder / kind};" for kind in kinds)
    main = folder / "nginx.conf"
    main.write_text(
        f"daemon off; worker_processes 1; pid {folder / 'pid'}; events {{ }}\n"
        f"http {{ access_log off; {temporary} include {folder / 'site.conf'}; }}\n"
    )
    with (
        listening,
        (folder / "error.log").open("wb") as log,
        subprocess.Popen(
            [NGINX, "-e", "stderr", "-p", str(folder), "-c", str(main)],
            env={**os.environ, "NGINX": f"{descriptor};"},
            pass_fds=[descriptor],
            stderr=log,
        ) as running,
    ):
        listening.close()  # nobody else is to accept, nor to hold the port when nginx has ended
        try:
            while not (folder / "pid").exists():
                assert running.poll() is None, (folder / "error.log").read_text()
                time.sleep(0.05)
            yield port
        finally:
            running.terminate()


def site(upstream: int) -> str:
    """deploy/nginx.conf in front of a server at this port."""
    text = (HOUSE / "deploy/nginx.conf").read_text()
    assert "server 127.0.0.1:8000;" in text
    return text.replace("server 127.0.0.1:8000;", f"server 127.0.0.1:{upstream};")


def caller(port: int, host: str, **headers: str) -> httpx.Client:
    return httpx.Client(
        base_url=f"http://127.0.0.1:{port}",
        headers={"Host": host, "Authorization": f"Bearer {KEY}", **headers},
        trust_env=False,
        timeout=90,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nginx")


@pytest.fixture(scope="module")
def proxy(folder: Path) -> Iterator[int]:
    """nginx in front of a whole danlu."""
    with danlu(folder / "home") as upstream, nginx(folder / "proxy", site(upstream)) as port:
        yield port


@pytest.fixture(scope="module")
def http(proxy: int) -> Iterator[httpx.Client]:
    with caller(proxy, "danlu.example") as http:
        yield http


@pytest.fixture(scope="module")
def job(http: httpx.Client) -> dict[str, Any]:
    """A job that was followed by a long poll until its end."""
    answer = http.post("/train", json={"dataset": "digits", "epochs": 2})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    while job["finished_at"] is None:
        job = http.get(answer.headers["location"], params={"wait": 55}).json()
    return job


def test_it_reaches_the_server_by_its_name(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/jobs").status_code == 200


def test_names_that_the_server_does_not_know_are_refused(proxy: int) -> None:
    with caller(proxy, "rebound.example") as http:
        answer = http.get("/jobs")

    assert answer.json()["code"] == "host_refused"


def test_callers_bring_the_key(proxy: int) -> None:
    with caller(proxy, "danlu.example", Authorization="") as http:
        answer = http.get("/jobs")

    assert (answer.status_code, answer.json()["code"]) == (401, "key_missing")


def test_a_long_poll_lasts_until_the_job_ends(job: dict[str, Any]) -> None:
    assert job["state"] == "succeeded", job["error"]


def test_an_image_of_several_megabytes_is_classified(
    http: httpx.Client, job: dict[str, Any]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    assert len(file.getvalue()) > 5_000_000

    form = http.post("/predict", files={"file": file.getvalue()}, params={"model": job["id"]})
    # In pieces and without a Content-Length, as `curl -T -` sends it.
    pieces = http.post("/predict", content=iter([file.getvalue()]), params={"model": job["id"]})

    assert form.status_code == 200, form.text
    assert pieces.json()["predictions"][0]["top"] == form.json()["predictions"][0]["top"]


def test_too_large_a_body_is_refused_in_words_of_danlu(proxy: int) -> None:
    # On a connection of its own: nginx says keep-alive, and ends it soon, for the body is not read.
    with caller(proxy, "danlu.example") as http:
        answer = http.post("/train", content=b"x" * 3_000_000)

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_events_come_while_the_job_runs(http: httpx.Client) -> None:
    job_id = http.post("/train", json={"dataset": "digits", "epochs": 500}).json()["id"]
    names: list[str] = []
    with http.stream("GET", f"/jobs/{job_id}/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("event: "):
                names.append(line.removeprefix("event: "))
                if names.count("epoch") == 1 and names[-1] == "epoch":
                    assert http.get(f"/jobs/{job_id}").json()["state"] == "running"
                    http.post(f"/jobs/{job_id}/cancel")

    assert names[0] == "state"
    assert names[-1] == "end"


# Below a path


@pytest.fixture(scope="module")
def below(folder: Path) -> Iterator[int]:
    with danlu(folder / "below", "--no-worker", "--root-path", "/danlu") as upstream:
        yield upstream


@pytest.fixture(scope="module", params=["left on", "cut off"])
def site_below(request: Any, folder: Path, below: int) -> Iterator[httpx.Client]:
    """The second server of the example, as it is and with the slash that its comment tells of."""
    text = site(below)
    if request.param == "cut off":
        text = text.replace("proxy_pass http://danlu;", "proxy_pass http://danlu/;")
    with (
        nginx(folder / f"below {request.param}".replace(" ", "-"), text) as port,
        caller(port, "www.example") as http,
    ):
        yield http


def test_every_address_lies_below_the_path(site_below: httpx.Client) -> None:
    assert site_below.get("/danlu/healthz").json() == {"status": "ok"}
    assert site_below.get("/healthz").status_code in (403, 404)  # another site's
    assert site_below.get("/danlu").headers["location"].endswith("/danlu/")
    assert site_below.get("/danlu/").headers["location"] == "/danlu/docs"

    made = site_below.post("/danlu/train", json={"dataset": "digits"})

    assert made.headers["location"] == f"/danlu/jobs/{made.json()['id']}"
    assert site_below.get(made.headers["location"]).json()["state"] == "queued"


def test_pages_below_the_path_find_what_they_need(site_below: httpx.Client) -> None:
    page = site_below.get("/danlu/docs").text
    links = re.findall(r"""(?:src|href|url)[=:] ?["']([^"']+)""", page)

    assert len(links) >= 4
    for link in links:
        assert site_below.get(urljoin("/danlu/docs", link)).status_code == 200, link
    assert site_below.get("/danlu/openapi.json").json()["servers"] == [{"url": "/danlu"}]

    problem = site_below.get("/danlu/jobs/nope").json()

    assert problem["type"].startswith("/danlu/docs/errors/")
    assert site_below.get(problem["type"]).status_code == 200


def test_the_client_takes_the_path_with_the_address(below: int) -> None:
    with Client(f"http://127.0.0.1:{below}/danlu", api_key=KEY) as client:
        made = client.train({"dataset": "digits"})

        assert client.job(made["id"])["state"] == "queued"


# What nginx hands on, seen by a server that is not danlu's


class Upstream:
    """Takes one request, keeps what it reads, answers once it has read so many bytes."""

    def __init__(self, *, answer: bytes, after: int = 0) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._answer, self._after = answer, after
        self.port = int(self._listening.getsockname()[1])
        self.received = b""
        self.enough = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Upstream":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        with suppress(OSError):
            connection, _ = self._listening.accept()
            with connection:
                while b"\r\n\r\n" not in self.received or len(self.received) < self._after:
                    self.received += connection.recv(65536)
                self.enough.set()
                connection.sendall(self._answer)
                while piece := connection.recv(65536):
                    connection.sendall(piece)


def test_websockets_pass(folder: Path) -> None:
    switch = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    )
    with (
        Upstream(answer=switch) as upstream,
        nginx(folder / "websocket", site(upstream.port)) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as connection,
    ):
        connection.sendall(
            b"GET /live HTTP/1.1\r\nHost: danlu.example\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n"
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 101 ")
        connection.sendall(b"ping")
        assert connection.recv(65536) == b"ping"
    head = upstream.received.decode().lower()

    assert "host: danlu.example\r\n" in head
    assert "upgrade: websocket\r\n" in head
    assert "connection: upgrade\r\n" in head
    assert "x-forwarded-for: 192.0.2.7, 127.0.0.1\r\n" in head
    assert "x-forwarded-proto: http\r\n" in head


def test_an_upload_is_handed_on_while_it_comes_in(folder: Path) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: danlu.example\r\nContent-Length: 9000000\r\n\r\n"
    with (
        Upstream(answer=b"HTTP/1.1 204 No Content\r\n\r\n", after=40_000) as upstream,
        nginx(folder / "upload", site(upstream.port)) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as connection,
    ):
        connection.sendall(head + b"x" * 50_000)
        assert upstream.enough.wait(30)


def test_it_waits_longer_than_danlu_answers() -> None:
    found = re.findall(r"proxy_read_timeout (\d+)s;", site(1))

    assert found
    assert all(int(seconds) > 55 + 15 for seconds in found)


def test_it_lets_go_of_connections_before_danlu_does() -> None:
    [seconds] = re.findall(r"keepalive_timeout (\d+)s;", site(1))

    assert int(seconds) < IDLE_SECONDS
