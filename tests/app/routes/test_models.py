"""Aliases over HTTP: put, listed, rolled back, deleted, and what is refused."""

import shutil
from functools import partial

import pytest
from sqlalchemy import update

from app.aliases import point
from database import aliases as rows
from database.tables import Checkpoint, State


@pytest.fixture
def put(server):
    def put(alias, checkpoint, **more):
        return server.request("PUT", f"/models/{alias}", json={"checkpoint": checkpoint}, **more)

    return put


def test_an_alias_from_nothing_to_nothing(server, train, put, png, problem):
    first, second = train(server.settings).checkpoint_ids
    made = put("production", first, headers={"X-Danlu-User": "lin"})
    assert made.status_code == 200
    answer = made.json()
    assert set(answer) == {
        *("alias", "checkpoint_id", "job_id", "classes", "input", "accuracy", "warm", "serving"),
        *("updated_at", "updated_by", "history"),
    }
    assert (answer["alias"], answer["checkpoint_id"], answer["warm"]) == ("production", first, True)
    assert (answer["accuracy"], answer["input"], answer["updated_by"]) == (0.91, "1x28x28", "lin")
    assert answer["classes"] == [str(digit) for digit in range(10)]
    assert put("production", first).json() == answer, "nothing new"

    moved = put("production", second).json()
    assert [one["checkpoint_id"] for one in moved["history"]] == [second, first]
    back = put("production", moved["history"][1]["checkpoint_id"]).json()
    assert [one["checkpoint_id"] for one in back["history"]] == [first, second, first]
    assert server.get("/models/Production").json() == back
    assert server.get("/models").json() == {"items": [back], "next_cursor": None}

    predicted = server.post("/predict?model=production", content=png()).json()
    assert (predicted["checkpoint_id"], predicted["model"]) == (first, "production")
    assert problem(server.post("/predict", content=png()), 404, "model_required")["hint"]

    assert server.delete("/models/production").status_code == 204
    problem(server.post("/predict?model=production", content=png()), 404, "model_not_found")
    assert server.post("/predict", content=png()).json()["checkpoint_id"] == second
    for method in ("GET", "DELETE"):
        problem(server.request(method, "/models/production"), 404, "model_not_found")


def test_a_job_stands_for_its_best_of_now(server, train, put, png):
    made = train(server.settings)
    assert put("default", made.job_id).json()["checkpoint_id"] == made.best
    assert server.post("/predict", content=png()).json()["checkpoint_id"] == made.best


@pytest.mark.parametrize("alias", ["Production", "-a", "a" * 65, "产品", "a b"])
def test_what_cannot_be_an_alias(server, put, problem, alias):
    said = problem(put(alias, "ckpt_01K00000000000000000000000"), 422, "invalid_request")
    assert said["errors"][0]["loc"] == ["path", "alias"]


@pytest.mark.parametrize(
    ("checkpoint", "code"),
    [
        ("ckpt_01K00000000000000000000000", "checkpoint_not_found"),
        ("job_01K00000000000000000000000", "job_not_found"),
        ("production", "checkpoint_not_found"),
    ],
)
def test_what_there_is_not_to_point_at(server, put, problem, checkpoint, code):
    said = problem(put("production", checkpoint), 404, code)
    assert said["errors"][0]["loc"] == ["body", "checkpoint"]
    assert server.get("/models").json()["items"] == []


def test_a_job_without_a_checkpoint(server, train, put, problem):
    made = train(server.settings, epochs=0, end=None)
    said = problem(put("production", made.job_id), 404, "checkpoint_not_found")
    assert "running" in said["detail"]
    assert "Wait" in said["hint"]
    ended = train(server.settings, epochs=0, end=State.failed)
    said = problem(put("production", ended.job_id), 404, "checkpoint_not_found")
    assert "Wait" not in said["hint"]


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        ({"json": {}}, 422, "invalid_request"),
        ({"json": {"checkpoint": 7}}, 422, "invalid_request"),
        ({"json": {"checkpoint": "x", "weight": 1}}, 422, "unknown_field"),
        ({"content": b"{"}, 400, "invalid_json"),
    ],
)
def test_bodies_that_are_refused(shared, problem, content, status, code):
    headers = {"Content-Type": "application/json"}
    response = shared.request("PUT", "/models/production", headers=headers, **content)
    problem(response, status, code)


def test_one_that_does_not_serve_as_it_was_trained(server, train, put, problem):
    made = train(server.settings)
    with server.sessions.begin() as session:
        session.execute(update(Checkpoint).values(parity=False))
    problem(put("production", made.best), 409, "parity_failed")


def test_what_an_alias_points_at_stays(server, train, put, problem):
    made = train(server.settings)
    put("production", made.best)
    for address in (f"/checkpoints/{made.best}", f"/jobs/{made.job_id}"):
        said = problem(server.delete(address), 409, "checkpoint_in_use")
        assert "production" in said["detail"]
    assert (server.settings.checkpoints / made.best).is_dir()
    assert server.delete("/models/production").status_code == 204
    assert server.delete(f"/jobs/{made.job_id}").status_code == 204


def test_what_another_server_moved_and_deleted_is_not_asked_for(server, train, put, png):
    """This one believes for a moment that the alias still points at what is gone."""
    first, second = train(server.settings).checkpoint_ids
    held = server.app.state.resources
    server.portal.call(partial(point, held, "production", first, by="lin"))
    server.portal.call(held.models.find, "production")
    server.portal.call(held.predictor.pool._forget, first)
    with server.sessions.begin() as session:
        rows.point(session, "production", second, by="wei")
    shutil.rmtree(server.settings.checkpoints / first)
    answer = server.post("/predict?model=production", content=png())
    assert answer.json()["checkpoint_id"] == second
