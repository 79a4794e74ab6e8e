"""Ids that are ids, owners of any script, and sessions that commit before the answer leaves."""

import pytest
from sqlalchemy import text

from app import dependencies
from app.dependencies import Writing
from database import jobs
from problems import Problem

A_JOB = "job_01K9ZC3V9QH5N7X1B8TDA4RWEM"


@pytest.mark.parametrize("text", ["", "..", "job_", "job_../../etc/passwd", f"{A_JOB}\n"])
def test_what_is_no_id_finds_no_job(text):
    with pytest.raises(Problem) as caught:
        dependencies.job_id_of(text)
    assert caught.value.code == "job_not_found"


@pytest.mark.parametrize(
    ("sent", "owner"),
    [(b"lin", "lin"), (b"  ", "anonymous"), ("林".encode(), "林"), (b"zo\xeb", "zoë")],
)
def test_owners(server, sent, owner):
    response = server.post("/train", json={"dataset": "digits"}, headers={b"X-Danlu-User": sent})
    assert response.json()["owner"] == owner


def test_what_fails_leaves_no_rows_and_is_no_success(server, problem):
    def fail(session: Writing) -> None:
        jobs.enqueue(session, kind="train", dataset=None, recipe=None, owner="lin")
        raise ZeroDivisionError

    server.app.add_api_route("/fail", fail)
    problem(server.get("/fail"), 500, "internal")
    assert server.get("/jobs").json()["items"] == []


def test_a_commit_that_fails_is_no_success(server, problem):
    """The answer waits for the commit: here SQLite finds only then that the job does not exist."""

    def fail_at_commit(session: Writing) -> dict[str, str]:
        session.execute(text("PRAGMA defer_foreign_keys = ON"))
        session.execute(text("INSERT INTO job_tags (tag, job_id) VALUES ('x', 'nobody')"))
        return {"state": "done"}

    server.app.add_api_route("/fail", fail_at_commit)
    problem(server.get("/fail"), 500, "internal")
