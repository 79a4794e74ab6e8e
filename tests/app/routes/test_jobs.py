"""Jobs over HTTP: lists and their filters, long polls, curves, logs, cancelling."""

import pytest
from sqlalchemy import event, insert
from sqlalchemy.exc import OperationalError

from data_store import limits
from database import history
from database.tables import Epoch, State


@pytest.fixture
def queued(server) -> str:
    return str(server.post("/train", json={"dataset": "digits"}).json()["id"])


WIRE = {
    *("id", "kind", "name", "tags", "owner", "state", "priority", "attempt", "queue_position"),
    *("waiting_for", "device", "worker", "dataset", "recipe", "progress", "metrics"),
    *("checkpoints", "best_checkpoint_id", "warnings", "stop_reason", "error", "disk_bytes"),
    *("created_at", "started_at", "finished_at", "finishing"),
}


def test_a_job_has_every_field_of_the_contract(shared, trained):
    job = shared.get(f"/jobs/{trained.job_id}").json()
    assert set(job) == WIRE
    assert set(job["progress"]) == {
        *("phase", "epoch", "epochs", "step", "steps", "fraction", "images_per_second"),
        *("eta_seconds", "bytes", "bytes_per_second"),
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
    wrong = ("sort=name", "limit=0", "limit=201", "active=perhaps", "cursor=zzz", "kind=trian")
    for query in wrong:
        document = problem(shared.get(f"/jobs?{query}"), 422, "invalid_request")
        assert document["errors"][0]["loc"] == ["query", query.partition("=")[0]]


MISSING = ["job_01K00000000000000000000000", "nope", "%2e%2e", "..%2f..%2fetc", "%00"]


@pytest.mark.parametrize("job_id", MISSING)
@pytest.mark.parametrize(
    "suffix", ["", "/history", "/logs", "/script", "/events", "/cancel", "/resume"]
)
def test_a_job_that_does_not_exist(shared, problem, job_id, suffix):
    method = "POST" if suffix in ("/cancel", "/resume") else "GET"
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


def test_the_script_of_a_job_that_has_not_begun(server, queued):
    response = server.get(f"/jobs/{queued}/script")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/x-python; charset=utf-8"
    name = f"danlu-mnist_net-{queued}.py"
    assert response.headers["content-disposition"] == f'attachment; filename="{name}"'
    compile(response.text, name, "exec")
    assert str(server.settings.home) not in response.text


def test_jobs_without_a_script(server, train, problem):
    job_id = train(server.settings).job_id  # whose recipe lacks most of its fields
    document = problem(server.get(f"/jobs/{job_id}/script"), 409, "no_script")
    assert "another version" in document["detail"]
    waiting = server.post("/train", json={"dataset": "digits", "normalize": "auto"}).json()["id"]
    document = problem(server.get(f"/jobs/{waiting}/script"), 409, "no_script")
    assert "measured" in document["detail"]


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


def test_unknown_fields_of_actions_are_refused(server, queued, problem):
    for method, suffix in (("POST", "/cancel"), ("POST", "/resume"), ("PATCH", "")):
        response = server.request(method, f"/jobs/{queued}{suffix}", json={"finnish": True})
        document = problem(response, 422, "unknown_field")
        assert document["errors"][0]["loc"] == ["body", "finnish"]
    assert server.post(f"/jobs/{queued}/cancel", json={}).status_code == 202


def test_a_job_may_be_asked_to_finish_early(server, train, problem):
    job_id = train(server.settings, end=None).job_id
    for _ in range(2):
        response = server.post(f"/jobs/{job_id}/cancel", json={"finish": True})
        assert (response.status_code, response.json()["state"]) == (202, "running")
        assert response.json()["finishing"] is True
    server.finish(job_id, stop_reason="finished_early")
    problem(server.post(f"/jobs/{job_id}/cancel", json={"finish": True}), 409, "job_ended")


@pytest.mark.parametrize("state", [State.failed, State.cancelled])
def test_a_job_that_did_not_succeed_is_resumed(server, train, state):
    job_id = train(server.settings, end=state).job_id
    response = server.post(f"/jobs/{job_id}/resume")
    job = response.json()
    assert (response.status_code, job["state"], job["attempt"]) == (202, "queued", 2)
    assert (job["error"], job["finished_at"], job["stop_reason"]) == (None, None, None)
    assert len(job["checkpoints"]) == 2


def test_a_job_that_succeeded_takes_more_epochs(server, train, problem):
    job_id = train(server.settings).job_id
    with server.sessions.begin() as session:
        row = {"job_id": job_id, "attempt": 1, "epoch": 2}
        session.execute(insert(Epoch).values(row))
    document = problem(server.post(f"/jobs/{job_id}/resume"), 409, "job_not_resumable")
    assert "12" in document["hint"]
    problem(server.post(f"/jobs/{job_id}/resume", json={"epochs": 2}), 409, "job_not_resumable")
    job = server.post(f"/jobs/{job_id}/resume", json={"epochs": 30}).json()
    assert (job["state"], job["recipe"]["epochs"], job["progress"]["epochs"]) == ("queued", 30, 30)
    problem(server.post(f"/jobs/{job_id}/resume", json={"epochs": 40}), 409, "job_active")


def test_a_job_is_not_resumed_with_other_classes(server, train, png, problem):
    """It would fail, and end as that."""
    folder = server.settings.datasets / "numbers"
    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True)
        (folder / str(digit) / "1.png").write_bytes(png(digit))
    job_id = train(server.settings, dataset="numbers").job_id
    (folder / "9").rename(folder / "nine")

    response = server.post(f"/jobs/{job_id}/resume", json={"epochs": 3})

    said = problem(response, 409, "dataset_changed")
    assert "'nine' has come, '9' has gone" in said["detail"]
    job = server.get(f"/jobs/{job_id}").json()
    assert (job["state"], job["attempt"]) == ("succeeded", 1)
    (folder / "nine").rename(folder / "9")
    assert server.post(f"/jobs/{job_id}/resume", json={"epochs": 3}).status_code == 202


@pytest.mark.parametrize("epochs", [0, -1, "3", 2.5, 1e9])
def test_epochs_that_cannot_be(server, train, problem, epochs):
    job_id = train(server.settings, end=State.failed).job_id
    response = server.post(f"/jobs/{job_id}/resume", json={"epochs": epochs})
    problem(response, 422, "invalid_request")


def test_name_tags_and_priority_may_be_changed(server, queued):
    path = f"/jobs/{queued}"
    changes = {"name": "第二", "tags": ["a", "b", "a"], "priority": 7}
    assert server.request("PATCH", path, json=changes).status_code == 200
    server.request("PATCH", path, json={"tags": ["b"]})
    job = server.get(path).json()
    assert (job["name"], job["tags"], job["priority"]) == ("第二", ["b"], 7)
    found = [[one["id"] for one in server.get(f"/jobs?tag={t}").json()["items"]] for t in "ab"]
    assert found == [[], [queued]]
    assert server.request("PATCH", path, json={"name": None}).json()["name"] is None
    assert server.request("PATCH", path, json={}).json()["priority"] == 7


def test_deleting_frees_what_it_says(server, train, problem):
    job_id = train(server.settings, end=None).job_id
    run = server.settings.runs / job_id
    run.mkdir(parents=True)
    (run / "log.txt").write_text("x" * 1000)
    problem(server.delete(f"/jobs/{job_id}"), 409, "job_active")
    server.finish(job_id)
    job = server.get(f"/jobs/{job_id}").json()
    folders = [run, *(server.settings.checkpoints / one["id"] for one in job["checkpoints"])]
    there = sum(file.stat().st_size for folder in folders for file in folder.iterdir())
    assert job["disk_bytes"] == there
    assert server.delete(f"/jobs/{job_id}").status_code == 204
    assert not any(folder.exists() for folder in folders)
    problem(server.get(f"/jobs/{job_id}"), 404, "job_not_found")
    problem(server.delete(f"/jobs/{job_id}"), 404, "job_not_found")
    assert server.get("/checkpoints").json()["items"] == []


def test_on_a_full_disk_a_job_makes_the_room_in_which_it_is_forgotten(server, train, monkeypatch):
    job_id = train(server.settings).job_id
    run = server.settings.runs / job_id
    (run / "state").mkdir(parents=True)

    def refuse(_connection):
        if run.exists():
            raise OperationalError("COMMIT", None, Exception("database or disk is full"))

    event.listen(server.app.state.resources.database, "commit", refuse)
    assert server.delete(f"/jobs/{job_id}").status_code == 507
    assert (run / "state").exists()
    monkeypatch.setattr(limits, "free_bytes", lambda _: 0)
    assert server.delete(f"/jobs/{job_id}").status_code == 204
    assert server.get(f"/jobs/{job_id}").status_code == 404
    assert not any(server.settings.checkpoints.iterdir())


def test_the_curves_as_a_picture(server, train, problem):
    job = train(server.settings, end=None).job_id
    before = server.get(f"/jobs/{job}/plot.png")
    assert (before.status_code, before.headers["content-type"]) == (200, "image/png")
    holder = server.fence(job)
    with server.sessions.begin() as session:
        for epoch in (1, 2):
            values = {"epoch": epoch, "train_loss": 1 / epoch, "val_loss": None}
            history.add_epoch(session, holder, values)
    after = server.get(f"/jobs/{job}/plot.png")
    assert after.content.startswith(b"\x89PNG")
    assert after.content != before.content
    server.finish(job)
    assert server.get(f"/jobs/{job}/plot.png").content == after.content
    problem(server.get("/jobs/job_01K00000000000000000000000/plot.png"), 404, "job_not_found")


def test_a_long_poll_ends_with_its_client(server, queued):
    sent = []
    server.hang_up_on("GET", f"/jobs/{queued}", query=b"wait=50", sent=sent)
    assert sent == []
