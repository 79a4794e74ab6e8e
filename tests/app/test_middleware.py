"""What surrounds every request: its id, safe headers, how its body comes, the last resort."""

import asyncio
import logging
import time

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from app import errors
from app.middleware import BodyLimit, Counted
from app.tallies import GONE, Requests
from settings import Settings


def test_every_response_has_a_request_id(shared):
    ids = {shared.get("/healthz").headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2
    assert shared.get("/nothing").headers["x-request-id"]


def test_the_callers_request_id_is_kept(shared):
    sent = {"X-Request-Id": "me-42"}
    assert shared.get("/jobs", headers=sent).headers["x-request-id"] == "me-42"


@pytest.mark.parametrize("hostile", ["x" * 200, "two words", "café"])
def test_a_request_id_that_is_long_or_unprintable_is_replaced(shared, hostile):
    sent = {b"X-Request-Id": hostile.encode()}
    assert shared.get("/jobs", headers=sent).headers["x-request-id"].startswith("req_")


def test_what_nobody_foresaw_is_a_problem_without_a_traceback(server, problem, caplog):
    def fail() -> None:
        raise ZeroDivisionError("the secret of the house")

    server.app.add_api_route("/boom", fail)
    with caplog.at_level(logging.ERROR):
        response = server.get("/boom")
    problem(response, 500, "internal")
    assert "secret" not in response.text
    assert response.headers["x-request-id"]
    assert "ZeroDivisionError" in caplog.text


def test_a_body_that_is_too_large(shared, problem):
    body = b'{"dataset": "' + b"x" * 1_000_001 + b'"}'
    headers = {"Content-Type": "application/json"}
    problem(shared.post("/train", content=body, headers=headers), 413, "body_too_large")


def test_a_body_that_is_too_large_and_does_not_say_so(shared, problem):
    async def pieces():
        for _ in range(2000):
            yield b"x" * 1000

    headers = {"Content-Type": "application/json"}
    problem(shared.post("/train", content=pieces(), headers=headers), 413, "body_too_large")


def test_an_announced_size_that_is_no_number(shared, problem):
    headers = {"Content-Type": "application/json", "Content-Length": "lots"}
    problem(shared.post("/train", content=b"{", headers=headers), 400, "invalid_json")


# Bodies that stop coming


async def ask(
    method: str, path: str, *, pause_seconds: float = 0.05, **content: object
) -> httpx.Response:
    """What an app answers that lets a body pause so long, a twentieth of a second."""
    app = FastAPI()
    errors.install(app)
    app.add_middleware(BodyLimit, settings=Settings(), pause_seconds=pause_seconds)

    @app.post("/read")
    async def read(body: dict[str, int]) -> dict[str, int]:
        return body

    @app.post("/stream")
    async def stream(request: Request) -> StreamingResponse:
        async def pieces():
            for _ in range(3):
                await asyncio.sleep(0.1)
                yield b"x"

        await request.body()
        return StreamingResponse(pieces())

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        return await http.request(method, path, **content)


def test_a_body_that_stops_coming(settings):
    async def pieces():
        yield b'{"a":'
        await asyncio.sleep(60)

    headers = {"Content-Type": "application/json"}
    response = asyncio.run(ask("POST", "/read", content=pieces(), headers=headers))
    assert response.status_code == 408
    assert response.json()["code"] == "request_too_slow"
    assert response.headers["connection"] == "close"


def test_a_body_may_come_slowly(settings):
    """All of it takes longer than a pause may; a pause is far from that, also on a busy machine."""

    async def pieces():
        for piece in b'{"a": 1}':
            await asyncio.sleep(0.3)
            yield bytes([piece])

    headers = {"Content-Type": "application/json"}
    began = time.monotonic()
    asking = ask("POST", "/read", pause_seconds=2, content=pieces(), headers=headers)
    assert asyncio.run(asking).json() == {"a": 1}
    assert time.monotonic() - began > 2


def test_an_answer_may_take_its_time(settings):
    assert asyncio.run(ask("POST", "/stream", content=b"x")).text == "xxx"


# Headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in ("/jobs", "/docs", "/nothing", "/docs/errors/internal")),
        *(("GET", path) for path in ("/docs/assets/swagger-ui.css", "/openapi.json", "/")),
        *(("HEAD", "/jobs"), ("POST", "/docs"), ("POST", "/train"), ("OPTIONS", "/jobs")),
    ],
)
def test_every_answer_has_safe_headers(shared, keyed, method, path):
    for server in (shared, keyed):
        headers = server.request(method, path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["content-security-policy"].startswith("default-src ")


def test_only_pages_may_do_anything(shared):
    nothing = "default-src 'none'; frame-ancestors 'none'"
    assert shared.get("/jobs").headers["content-security-policy"] == nothing
    assert "script-src 'self'" in shared.get("/docs").headers["content-security-policy"]


def test_what_needed_a_key_is_not_kept(shared, keyed, key):
    answer = keyed.get("/jobs", headers={"Authorization": f"Bearer {key}"})
    assert answer.headers["cache-control"] == "no-store"
    assert "cache-control" not in shared.get("/jobs").headers


# Pages of other origins that may read


SHOP = {"Origin": "https://shop.example"}


@pytest.mark.parametrize("status", [200, 401, 421])
def test_pages_that_are_named_may_read_answers_and_refusals(keyed, key, status):
    sent = {200: {"Authorization": f"Bearer {key}"}, 401: {}, 421: {"Host": "evil.example"}}
    response = keyed.get("/jobs", headers={**SHOP, **sent[status]})
    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == SHOP["Origin"]
    assert response.headers["cross-origin-resource-policy"] == "cross-origin"
    assert "X-Request-Id" in response.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in response.headers


def test_pages_that_are_named_may_ask_beforehand_without_the_key(keyed):
    asked = {
        "Access-Control-Request-Method": "DELETE",
        "Access-Control-Request-Headers": "authorization, idempotency-key",
    }
    response = keyed.request("OPTIONS", "/jobs/x", headers={**SHOP, **asked})
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == SHOP["Origin"]
    assert "DELETE" in response.headers["access-control-allow-methods"]


def test_pages_that_are_named_may_write(keyed, key, problem):
    sent = {**SHOP, "Authorization": f"Bearer {key}"}
    path, recipe = "/train?dry_run=true", {"dataset": "digits"}
    assert keyed.post(path, json=recipe, headers=sent).status_code == 200
    other = {**sent, "Origin": "https://shop.example.org"}
    problem(keyed.post(path, json=recipe, headers=other), 403, "origin_refused")


def test_other_pages_may_not_even_ask(keyed, shared, problem):
    sent = {"Origin": "http://evil.example", "Access-Control-Request-Method": "DELETE"}
    response = keyed.request("OPTIONS", "/jobs/x", headers=sent)
    problem(response, 403, "origin_refused")
    assert "access-control-allow-origin" not in response.headers
    assert "access-control-allow-origin" not in shared.request("OPTIONS", "/jobs").headers


def test_any_page(tmp_path, serve):
    with serve(Settings(home=tmp_path / "home", cors_origins="*")) as running:
        response = running.post("/nothing", headers={"Origin": "null"})
    assert response.status_code == 404
    assert response.headers["access-control-allow-origin"] == "*"


# The database


def test_a_database_that_does_not_answer(server, problem, caplog):
    with server.app.state.resources.database.begin() as connection:
        connection.exec_driver_sql("DROP TABLE jobs")
    with caplog.at_level(logging.ERROR):
        response = server.get("/jobs")
    problem(response, 503, "database_unavailable")
    assert response.headers["retry-after"] == "1"
    for secret in ("SELECT", "sqlite", "no such table", str(server.settings.home)):
        assert secret not in response.text
    assert "no such table: jobs" in caplog.text
    assert "Traceback" not in caplog.text


# Counting


async def _count(app, kind: str = "http") -> Requests:
    requests = Requests()
    scope = {"type": kind, "method": "GET", "query_string": b"", "path": "/"}

    async def send(_message: object) -> None:
        """Nobody listens."""

    await Counted(app, requests=requests)(scope, None, send)
    return requests


async def _answer_404(_scope: object, _receive: object, send) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _go_away(_scope: object, _receive: object, _send: object) -> None:
    """As the last resort does when the client went away."""


@pytest.mark.parametrize(("app", "status"), [(_answer_404, 404), (_go_away, GONE)])
def test_an_answer_is_counted_once_and_its_absence_too(app, status):
    [found] = asyncio.run(_count(app)).read()
    assert (found.status, found.count) == (status, 1)


def test_a_websocket_is_no_request():
    assert asyncio.run(_count(_go_away, "websocket")).read() == []


def test_what_nobody_foresaw_is_counted(server):
    def fail() -> None:
        raise ZeroDivisionError

    server.app.add_api_route("/boom", fail)
    server.get("/boom")
    [found] = server.app.state.resources.requests.read()
    assert (found.route, found.status, found.count) == ("/boom", 500, 1)
