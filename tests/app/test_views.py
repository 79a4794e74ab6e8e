"""How rows are shown: who works on a job, what it waits for, metrics that are no numbers."""

from database import history, jobs, processes
from database.tables import State


def test_a_running_job_says_who_works_on_it(server, train):
    job = server.get(f"/jobs/{train(server.settings, end=None).job_id}").json()
    assert job["worker"] == {"id": "w", "host": "h", "pid": 1}
    assert (job["state"], job["device"], job["queue_position"]) == ("running", "cpu", None)


def test_metrics_that_are_not_finite_are_null(server, train):
    job_id = train(server.settings, end=None).job_id
    with server.sessions.begin() as session:
        jobs.progress(
            session,
            jobs.fence_of(jobs.get(session, job_id)),
            progress={"phase": "training", "epoch": 1, "fraction": float("nan")},
            metrics={"train_loss": float("inf"), "val_count": 7},
        )
        history.add_epoch(
            session,
            jobs.fence_of(jobs.get(session, job_id)),
            {"epoch": 1, "train_loss": float("nan")},
        )
    job = server.get(f"/jobs/{job_id}").json()
    assert job["metrics"]["train_loss"] is None
    assert job["metrics"]["val_count"] == 7
    assert job["progress"]["fraction"] is None
    curves = server.get(f"/jobs/{job_id}/history").json()
    assert curves["epochs"][0]["train_loss"] is None


def test_a_job_that_goes_on_has_its_epochs_behind_it(server, train):
    job_id = train(server.settings, end=None).job_id
    fence = server.fence(job_id)
    with server.sessions.begin() as session:
        jobs.progress(session, fence, progress={"epoch": 1}, metrics={"train_loss": 0.5})
        history.add_epoch(session, fence, {"epoch": 1})
    server.finish(job_id, State.cancelled)

    def epoch():
        return server.get(f"/jobs/{job_id}").json()["progress"]["epoch"]

    assert server.post(f"/jobs/{job_id}/resume").json()["progress"]["epoch"] == 1
    assert server.get("/jobs").json()["items"][0]["progress"]["epoch"] == 1
    with server.sessions.begin() as session:
        claimed = jobs.claim(session, worker_id="w", host="h", device="cpu")
        fence = jobs.fence_of(claimed)
        jobs.progress(session, fence, progress={"phase": "decoding", "epoch": 0})
    assert epoch() == 1
    with server.sessions.begin() as session:  # its state was lost: it begins anew
        jobs.progress(session, fence, progress={"phase": "training", "epoch": 0})
    assert epoch() == 0


def test_an_error_and_warnings_are_shown(server, train):
    job_id = train(server.settings, end=None).job_id
    with server.sessions.begin() as session:
        jobs.describe(session, server.fence(job_id), warnings=[{"code": "x", "message": "y"}])
    error = {"code": "out_of_memory", "message": "full", "hint": "less", "errors": []}
    server.finish(job_id, State.failed, error=error)
    job = server.get(f"/jobs/{job_id}").json()
    assert job["state"] == "failed"
    assert job["error"] == {"code": "out_of_memory", "message": "full", "hint": "less"}
    assert job["warnings"] == [{"code": "x", "message": "y"}]


def test_places_in_the_queue(server):
    for _ in range(3):
        server.post("/train", json={"dataset": "digits"})
    places = [job["queue_position"] for job in server.get("/jobs").json()["items"]]
    assert places == [3, 2, 1]


def test_what_a_queued_job_waits_for(server):
    with server.sessions.begin() as session:
        processes.seen(session, role="supervisor", pid=1, host="h")
    for _ in range(3):
        server.post("/train", json={"dataset": "digits"})
    reasons = [job["waiting_for"] for job in server.get("/jobs").json()["items"]]
    assert reasons == ["2 jobs ahead of it", "1 job ahead of it", "a worker that is ready for it"]


def test_the_next_job_waits_for_the_device_that_another_has(server):
    with server.sessions.begin() as session:
        processes.seen(session, role="supervisor", pid=1, host="h")
    first, second = (
        server.post("/train", json={"dataset": "digits"}, headers={"X-Danlu-User": "mei"}).json()
        for _ in range(2)
    )
    with server.sessions.begin() as session:
        jobs.claim(session, worker_id="w", host="h", device="cuda:0")
    job = server.get(f"/jobs/{second['id']}").json()
    assert job["waiting_for"] == f"a free device: {first['id']} of mei has cuda:0"
    assert job["queue_position"] == 1


def test_a_job_on_several_devices_waits_for_as_many(server):
    with server.sessions.begin() as session:
        processes.seen(session, role="supervisor", pid=1, host="h")
    first = server.post("/train", json={"dataset": "digits"}).json()
    second = server.post("/train", json={"dataset": "digits", "devices": 2}).json()
    for device, free in (("cuda:0", "2 free devices"), ("cpu", "a free device")):
        with server.sessions.begin() as session:
            claimed = jobs.claim(session, worker_id="w", host="h", device=device)
            assert claimed.id == first["id"]
        job = server.get(f"/jobs/{second['id']}").json()
        assert job["waiting_for"] == f"{free}: {first['id']} of anonymous has {device}"
        with server.sessions.begin() as session:
            jobs.release(session, jobs.fence_of(claimed))
