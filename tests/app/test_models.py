"""Which checkpoint is meant by the id of a checkpoint, of a job, or by nothing."""

import pytest

from app import models
from database import jobs
from database.tables import State
from problems import Problem


def wanted(server, model=None) -> str:
    with server.sessions() as session:
        return models.wanted(session, model).id


def test_without_a_name_the_newest_job_that_succeeded(server, train):
    train(server.settings)
    newest = train(server.settings)
    train(server.settings, end=State.failed)
    train(server.settings, end=None)
    assert wanted(server) == newest.best


def test_a_checkpoint_and_a_job(server, train):
    made = train(server.settings, end=None)
    assert wanted(server, made.checkpoint_ids[0]) == made.checkpoint_ids[0]
    assert wanted(server, made.job_id) == made.best


def test_what_is_no_model(server):
    with server.sessions.begin() as session:
        job = jobs.enqueue(session, kind="train", dataset="digits", recipe={}, owner="lin")
    for model in (job.id, "cats", job.id[:-1], job.id.lower(), job.id.replace("job", "ckpt")):
        with pytest.raises(Problem) as caught:
            wanted(server, model)
        assert caught.value.code == "model_not_found"
    with pytest.raises(Problem) as caught:
        wanted(server)
    assert caught.value.code == "no_model_yet"
