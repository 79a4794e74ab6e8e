"""How errors of every origin look on the wire, and in the OpenAPI document."""

import json
import sqlite3
from contextlib import closing

from sqlalchemy import event

from app.errors import ProblemResponse, responses
from problems import Problem
from settings import Settings


def test_an_address_that_does_not_exist(shared, problem):
    assert "/docs" in problem(shared.get("/trian"), 404, "not_found")["hint"]


def test_a_method_that_an_address_does_not_take(shared, problem):
    response = shared.delete("/train")
    assert "POST" in problem(response, 405, "method_not_allowed")["hint"]
    assert response.headers["allow"] == "POST"


def test_every_method_of_an_address_is_allowed(shared, trained, problem):
    """Its operations are routes of their own; the first one alone would be half the truth."""
    response = shared.request("PUT", f"/checkpoints/{trained.best}")
    problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "DELETE, GET, HEAD"


def test_a_method_that_a_page_does_not_take(shared, problem):
    response = shared.post("/docs")
    problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET"


def test_a_problem_as_a_document():
    errors = [{"loc": ["body", "lr"], "msg": "negative"}]
    problem = Problem("invalid_request", "lr: negative", errors=errors)
    response = ProblemResponse(problem, headers={"X-A": "b"}, extra={"more": 1})
    assert response.status_code == 422
    assert response.media_type == "application/problem+json"
    assert response.headers["x-a"] == "b"
    assert json.loads(response.body) == {
        "type": "/docs/errors/invalid_request",
        "title": "The request is not valid",
        "status": 422,
        "detail": "lr: negative",
        "code": "invalid_request",
        "hint": "See errors for each wrong field.",
        "errors": errors,
        "more": 1,
    }


def test_half_a_surrogate_pair_does_not_break_the_document():
    response = ProblemResponse(Problem("unknown_field", "no field '\ud800'"))
    assert json.loads(response.body)["detail"] == "no field '?'"


def test_when_to_come_back():
    assert ProblemResponse(Problem("overloaded", "full")).headers["retry-after"] == "1"
    assert "retry-after" not in ProblemResponse(Problem("not_found", "no")).headers


def test_codes_of_one_status_share_a_description():
    found = responses("job_not_found", "job_ended")
    assert list(found) == [404, 409, 422, 500, 503, 507]
    assert "`job_ended`" in found[409]["description"]
    assert "[`unknown_parameter`](docs/errors/unknown_parameter)" in found[422]["description"]
    example = found[409]["content"]["application/problem+json"]["example"]
    assert (example["status"], example["code"]) == (409, "job_ended")


def test_a_full_disk_is_told_as_such(server, fill_up):
    fill_up(server)
    answer = server.post("/train", json={"dataset": "digits"})
    assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")
    assert server.get("/jobs").json()["items"] == []


def test_a_disk_that_takes_no_writes_is_nothing_to_wait_for(server):
    """As one that has failed: /readyz, which only reads, would say for ever that all is well."""
    database = server.app.state.resources.database

    @event.listens_for(database, "begin")
    def _(connection):
        if not connection.get_execution_options().get("read_only"):
            connection.exec_driver_sql("PRAGMA query_only = 1")

    answer = server.post("/train", json={"dataset": "digits"})
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert "danlu doctor" in answer.json()["hint"]
    assert server.get("/jobs").json()["items"] == []


def test_a_damaged_database_is_told_as_such(train, serve, tmp_path):
    """Neither the server nor what other parts of the file can answer ends with it."""
    settings = Settings(home=tmp_path / "home")
    train(settings)
    damage(settings.home / "danlu.sqlite3", "jobs")
    with serve(settings) as server:
        answer = server.get("/jobs")
        listed = server.get("/models")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert "danlu doctor" in answer.json()["hint"]
    assert listed.status_code == 200


def damage(path, table):
    """Writes over the page at which the table begins."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        found = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (page,) = connection.execute(found, [table]).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))
