"""The curves of a job: whole, and from where a client has them."""

from functools import partial

import pytest

from database import history, jobs


def test_curves_and_what_came_after(server, train):
    job_id = train(server.settings, end=None).job_id
    path = f"/jobs/{job_id}/history"
    assert server.get(path).json() == {"epochs": [], "steps": [], "next": None}
    holder = server.fence(job_id)
    with server.sessions.begin() as session:
        for step in range(1, 11):
            point = {"step": step, "epoch": 1, "train_loss": 1 / step, "lr": 0.1}
            history.add_step(session, holder, point)
        history.add_epoch(session, holder, {"epoch": 1, "train_loss": 0.5, "val_accuracy": 0.9})
    first = server.get(path).json()
    assert [epoch["epoch"] for epoch in first["epochs"]] == [1]
    assert set(first["epochs"][0]) == {
        *("epoch", "attempt", "train_loss", "train_accuracy", "val_loss", "val_accuracy"),
        *("test_loss", "test_accuracy", "lr", "images_per_second", "seconds"),
    }
    assert len(first["steps"]) == 10
    assert len(server.get(f"{path}?max_points=3").json()["steps"]) == 3
    with server.sessions.begin() as session:
        history.add_step(session, holder, {"step": 11, "epoch": 2, "train_loss": 0, "lr": 0.1})
    later = server.get(path, params={"since": first["next"]}).json()
    assert later["epochs"] == []
    assert [step["step"] for step in later["steps"]] == [11]
    assert server.get(path, params={"since": later["next"]}).json() == {
        "epochs": [],
        "steps": [],
        "next": later["next"],
    }


def test_the_steps_of_a_new_attempt_come_whole(server, train):
    job_id = train(server.settings, end=None).job_id
    path = f"/jobs/{job_id}/history"
    holder = server.fence(job_id)
    with server.sessions.begin() as session:
        for step in (1, 2, 3):
            history.add_step(session, holder, {"step": step, "epoch": 1})
        history.add_epoch(session, holder, {"epoch": 1})
    mark = server.get(path).json()["next"]
    with server.sessions.begin() as session:
        jobs.lose(session, holder, reason="it vanished")
        jobs.claim(session, worker_id="v", host="h", device="cpu")
    holder = server.fence(job_id)
    with server.sessions.begin() as session:
        jobs.start(session, holder, pid=2, device="cpu")
        history.add_step(session, holder, {"step": 2, "epoch": 1})
        history.add_epoch(session, holder, {"epoch": 1})
    news = server.get(path, params={"since": mark}).json()
    assert [step["step"] for step in news["steps"]] == [1, 2]
    assert [(epoch["attempt"], epoch["epoch"]) for epoch in news["epochs"]] == [(2, 1)]


def steps_since(server, job_id, mark):
    """The steps' numbers, and the next mark."""
    path = f"/jobs/{job_id}/history"
    news = server.get(path, params={} if mark is None else {"since": mark}).json()
    return [step["step"] for step in news["steps"]], news["next"]


@pytest.mark.parametrize("give_up", [partial(jobs.lose, reason="it vanished"), jobs.release])
def test_who_looks_between_two_workers_loses_no_step(server, train, give_up):
    """Until the next worker has a step of its own, those of the one before are there."""
    job_id = train(server.settings, end=None).job_id
    look = partial(steps_since, server, job_id)

    def write(session, *steps):
        holder = jobs.fence_of(jobs.get(session, job_id))
        jobs.progress(session, holder, progress={"step": steps[-1]})
        for step in steps:
            history.add_step(session, holder, {"step": step, "epoch": 1})

    def given_up(session):
        assert give_up(session, jobs.fence_of(jobs.get(session, job_id)))

    def claimed(session):
        jobs.claim(session, worker_id="v", host="h", device="cpu")

    def loading(session):
        holder = jobs.fence_of(jobs.get(session, job_id))
        jobs.start(session, holder, pid=2, device="cpu")
        jobs.progress(session, holder, progress={"phase": "decoding", "step": 0})

    with server.sessions.begin() as session:
        write(session, 10, 20, 30, 40)
    marks = [look(None)[1]]
    for _ in range(2):
        for change in (given_up, claimed, loading):
            with server.sessions.begin() as session:
                change(session)
            steps, mark = look(marks[-1])
            assert steps == []
            marks.append(mark)
        with server.sessions.begin() as session:
            write(session, 25, 35)
        news = [look(mark) for mark in marks]
        assert [steps for steps, _ in news] == [[10, 20, 25, 35]] * 4
        marks = [news[0][1]]
        assert look(marks[0])[0] == []
