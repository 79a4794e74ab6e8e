"""What the log says of requests; how its lines look is tested with `settings.logs`."""

import io
import json
import logging

import pytest

from app import logs
from settings import Settings


@pytest.fixture
def lines(monkeypatch, tmp_path):
    """What the server logs as JSON, all of it or by one logger: servers that tests share may say
    something meanwhile. The logging of the tests comes back afterwards.
    """
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    root, access = logging.getLogger(), logging.getLogger("uvicorn.access")
    before = (root.handlers[:], root.level, access.filters[:])
    monkeypatch.setattr(access, "propagate", True)  # a server of another test may be quiet
    root.handlers.clear()
    logs.configure(Settings(home=tmp_path, log_format="json"))

    def said(logger: str | None = None) -> list[dict[str, object]]:
        found = [json.loads(line) for line in written.getvalue().splitlines()]
        return [line for line in found if logger in (None, line["logger"])]

    yield said
    root.handlers[:], access.filters = before[0], before[2]
    root.setLevel(before[1])


def test_each_line_of_a_request_has_its_id(lines, server):
    server.get("/jobs", headers={"Authorization": "Bearer x", "X-Request-Id": "mine"})

    def fail() -> None:
        logging.getLogger("deep").warning("in a thread")
        raise ZeroDivisionError

    server.app.add_api_route("/log-twice", fail)
    response = server.get("/log-twice", headers={"X-Request-Id": "req-7"})
    of_it = [line for line in lines() if line.get("request_id") == "req-7"]
    assert [line["message"] for line in of_it] == ["in a thread", "GET /log-twice failed"]
    assert "ZeroDivisionError" in of_it[1]["exc_info"]
    assert response.json()["request_id"] == "req-7"


def test_lines_of_no_request_have_none(lines):
    logging.getLogger("app").info("started")
    [line] = lines("app")
    assert "request_id" not in line


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/docs?key=abc", "/docs?key=***"),
        ("/docs?a=1&k%65y=abc&b", "/docs?a=1&key=***&b"),
        ("/jobs?monkey=abc", "/jobs?monkey=abc"),
        ("/jobs", "/jobs"),
    ],
)
def test_the_access_log_shows_no_key_that_an_address_carried(lines, path, shown):
    form = '%s - "%s %s HTTP/%s" %d'
    logging.getLogger("uvicorn.access").info(form, "127.0.0.1:1", "GET", path, "1.1", 200)
    assert lines("uvicorn.access")[0]["message"] == f'127.0.0.1:1 - "GET {shown} HTTP/1.1" 200'


def test_an_access_log_without_arguments(lines):
    logging.getLogger("uvicorn.access").info("as it is")
    assert lines("uvicorn.access")[0]["message"] == "as it is"
