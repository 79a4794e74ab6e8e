"""Jobs over HTTP: lists and their filters, long polls, curves, logs, cancelling."""

import pytest

from database import jobs
from database.tables import State


@pytest.fixture
def queued(server) -> str:
    return str(server.post("/train", json={"dataset": "digits"}).json()["id"])


def fence(server, job_id):
    with server.sessions() as session:
        return jobs.fence_of(jobs.get(session, job_id))


def finish(server, job_id, state=State.succeeded, **more):
    with server.sessions.begin() as session:
        jobs.finish(session, jobs.fence_of(jobs.get(session, job_id)), state=state, **more)


WIRE = {
    *("id", "kind", "name", "tags", "owner", "state", "priority", "attempt", "queue_position"),
    *("waiting_for", "device", "worker", "dataset", "recipe", "progress", "metrics"),
    *("checkpoints", "best_checkpoint_id", "warnings", "stop_reason", "error", "disk_bytes"),
    *("created_at", "started_at", "finished_at"),
}


def test_a_job_has_every_field_of_the_contract(shared, trained):
    job = shared.get(f"/jobs/{trained.job_id}").json()
    assert set(job) == WIRE
    assert set(job["progress"]) == {
        *("phase", "epoch", "epochs", "step", "steps", "fraction", "images_per_second"),
        *("eta_seconds", "bytes"),
    }
    assert set(job["metrics"]) == {
        *("train_loss", "train_accuracy", "val_loss", "val_accuracy", "best_val_accuracy"),
        *("test_loss", "test_accuracy", "val_count"),
    }
    assert job["metrics"]["best_val_accuracy"] == 0.92
    assert [one["best"] for one in job["checkpoints"]] == [False, True]
    assert job["best_checkpoint_id"] == trained.best
    assert job["created_at"].endswith("Z")


def test_lists_leave_checkpoints_out_and_come_in_pages(server):
    made = [server.post("/train", json={"dataset": "digits"}).json()["id"] for _ in range(3)]
    first = server.get("/jobs?limit=2").json()
    assert [job["id"] for job in first["items"]] == [made[2], made[1]]
    assert set(first["items"][0]) == WIRE - {"checkpoints"}
    rest = server.get("/jobs", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [job["id"] for job in rest["items"]] == [made[0]]
    assert rest["next_cursor"] is None


def test_filters(server, train):
    done = train(server.settings)
    body = {"dataset": "digits", "tags": ["x"]}
    waiting = server.post("/train", json=body, headers={"X-Danlu-User": "mei"}).json()["id"]

    def found(query: str) -> list[str]:
        return [job["id"] for job in server.get(f"/jobs?{query}").json()["items"]]

    assert found("active=true") == found("state=queued,running") == found("owner=mei") == [waiting]
    assert found("active=false") == found("state=succeeded") == found("owner=lin") == [done.job_id]
    assert found("active=true&state=succeeded") == []
    assert found("tag=x") == [waiting]
    assert found("dataset=Digits&kind=train") == [waiting, done.job_id]
    assert found("dataset=gone") == found("kind=import") == []
    assert found("sort=created_at") == found("sort=-best_val_accuracy") == [done.job_id, waiting]


def test_wrong_filters(shared, problem):
    document = problem(shared.get("/jobs?state=quued"), 422, "invalid_request")
    assert document["hint"] == "Did you mean 'queued'?"
    for query in ("sort=name", "limit=0", "limit=201", "active=perhaps", "cursor=zzz"):
        document = problem(shared.get(f"/jobs?{query}"), 422, "invalid_request")
        assert document["errors"][0]["loc"] == ["query", query.partition("=")[0]]


MISSING = ["job_01K00000000000000000000000", "nope", "%2e%2e", "..%2f..%2fetc", "%00"]


@pytest.mark.parametrize("job_id", MISSING)
@pytest.mark.parametrize("suffix", ["", "/history", "/logs", "/cancel"])
def test_a_job_that_does_not_exist(shared, problem, job_id, suffix):
    method = "POST" if suffix == "/cancel" else "GET"
    response = shared.request(method, f"/jobs/{job_id}{suffix}")
    assert problem(response, 404, response.json()["code"])["code"] in ("job_not_found", "not_found")


@pytest.mark.parametrize("wait", ["-1", "56", "nan", "long"])
def test_a_wait_that_cannot_be(shared, problem, trained, wait):
    problem(shared.get(f"/jobs/{trained.job_id}?wait={wait}"), 422, "invalid_request")


@pytest.mark.parametrize("query", ["since=yesterday", "since=1", "max_points=1"])
def test_curves_asked_for_wrongly(shared, problem, trained, query):
    response = shared.get(f"/jobs/{trained.job_id}/history?{query}")
    problem(response, 422, "invalid_request")


def test_the_log_so_far(server, train):
    job_id = train(server.settings).job_id
    path = f"/jobs/{job_id}/logs"
    assert server.get(path).text == ""
    log = server.settings.runs / job_id / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("epoch 1/2 训练\n", encoding="utf-8")
    response = server.get(path)
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.text == "epoch 1/2 训练\n"


def test_a_queued_job_is_cancelled_at_once(server, queued):
    first = server.post(f"/jobs/{queued}/cancel")
    assert (first.status_code, first.json()["state"]) == (202, "cancelled")
    again = server.post(f"/jobs/{queued}/cancel")
    assert (again.status_code, again.json()["state"]) == (200, "cancelled")


def test_a_running_job_is_cancelled_by_its_worker(server, train):
    job_id = train(server.settings, end=None).job_id
    for _ in range(2):
        response = server.post(f"/jobs/{job_id}/cancel")
        assert (response.status_code, response.json()["state"]) == (202, "cancelling")


@pytest.mark.parametrize("state", [State.succeeded, State.failed])
def test_an_ended_job_cannot_be_cancelled(server, train, problem, state):
    job_id = train(server.settings, end=state).job_id
    problem(server.post(f"/jobs/{job_id}/cancel"), 409, "job_ended")
    assert server.get(f"/jobs/{job_id}").json()["state"] == state


def test_cancelling_takes_no_fields_yet(server, queued, problem):
    response = server.post(f"/jobs/{queued}/cancel", json={"finish": True})
    document = problem(response, 422, "unknown_field")
    assert document["errors"][0]["loc"] == ["body", "finish"]
    assert server.post(f"/jobs/{queued}/cancel", json={}).status_code == 202
