"""What surrounds every request: its id, the size of its body, the last resort."""

import logging

import pytest


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
