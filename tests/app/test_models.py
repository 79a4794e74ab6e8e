"""Which checkpoint is meant by an alias, the id of a checkpoint or of a job, or by nothing."""

import asyncio
import time

import pytest

from app import models
from app.models import FRESH_SECONDS, Models
from database import aliases, ids, jobs
from database.tables import State
from problems import Problem


def wanted(server, model=None) -> str:
    with server.sessions() as session:
        return models.wanted(session, model).id


def point(server, alias, checkpoint_id) -> None:
    with server.sessions.begin() as session:
        aliases.point(session, alias, checkpoint_id, by="lin")


def find(server, known, model) -> str:
    return server.portal.call(known.find, model).checkpoint_id


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


def test_an_alias_and_without_a_name_default(server, train):
    first, second = train(server.settings).checkpoint_ids
    point(server, "my-cats", first)
    assert wanted(server, "my-cats") == wanted(server, "My_Cats") == first
    with pytest.raises(Problem) as caught:
        wanted(server)
    assert caught.value.code == "model_required"
    assert "my-cats" in caught.value.hint
    point(server, "default", first)
    assert wanted(server) == first != second


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


@pytest.mark.parametrize(
    ("kind", "cancelled", "detail", "wait"),
    [
        ("train", False, "has no checkpoint; it is queued", True),
        ("train", True, "has no checkpoint; it is cancelled", False),
        ("import", False, "trains nothing: it is a job of kind import", False),
    ],
)
def test_nobody_is_told_to_wait_for_a_checkpoint_that_never_comes(
    server, kind, cancelled, detail, wait
):
    with server.sessions.begin() as session:
        job_id = jobs.enqueue(session, kind=kind, dataset="digits", recipe=None, owner="lin").id
        if cancelled:
            jobs.cancel(session, job_id)
    with pytest.raises(Problem) as caught:
        wanted(server, job_id)
    assert detail in caught.value.detail
    assert ("Wait" in caught.value.hint) is wait


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_another_server_is_heard_of_in_time(server, train, clock):
    first, second = train(server.settings).checkpoint_ids
    known = Models(server.app.state.resources.reading, clock=clock)
    point(server, "a", first)
    assert find(server, known, "a") == first
    point(server, "a", second)
    clock.now += FRESH_SECONDS / 4
    assert find(server, known, "a") == first, "no query"
    clock.now += FRESH_SECONDS
    assert find(server, known, "a") == second
    assert FRESH_SECONDS < 0.5


def test_what_grows_old_is_looked_for_while_nobody_waits(server, train, clock):
    first, second = train(server.settings).checkpoint_ids
    known = Models(server.app.state.resources.reading, clock=clock)
    point(server, "a", first)
    assert find(server, known, "a") == first
    point(server, "a", second)
    clock.now += FRESH_SECONDS / 2
    assert find(server, known, "a") == first
    deadline = time.monotonic() + 60
    while find(server, known, "a") == first:
        assert time.monotonic() < deadline


def test_who_asks_while_it_is_looked_for_shares_the_look(server, train, clock):
    [one] = train(server.settings, epochs=1).checkpoint_ids
    point(server, "a", one)
    reading, looks = server.app.state.resources.reading, []

    def counted():
        looks.append(1)
        return reading()

    known = Models(counted, clock=clock)

    async def ask():
        return await asyncio.gather(*(known.find("a") for _ in range(20)))

    assert {found.checkpoint_id for found in server.portal.call(ask)} == {one}
    assert len(looks) == 1


def test_what_is_forgotten_is_asked_anew(server, train, clock):
    first, second = train(server.settings).checkpoint_ids
    known = Models(server.app.state.resources.reading, clock=clock)
    point(server, "a", first)
    assert find(server, known, "a") == first
    point(server, "a", second)
    known.forget()
    assert find(server, known, "a") == second


def test_what_was_read_before_a_change_is_not_remembered(server, train, clock):
    first, second = train(server.settings).checkpoint_ids
    reading = server.app.state.resources.reading
    point(server, "a", first)
    changing = True

    class Sessions:
        """Another request changes the alias while this one has read it and not said so yet."""

        def __call__(self):
            return self

        def __enter__(self):
            self.session = reading()
            return self.session

        def __exit__(self, *_):
            self.session.close()
            if changing:
                point(server, "a", second)
                known.forget()

    known = Models(Sessions(), clock=clock)
    assert find(server, known, "a") == first
    changing = False
    assert find(server, known, "a") == second


def test_a_miss_is_asked_each_time_and_memory_is_bounded(server, train, clock, monkeypatch):
    [one] = train(server.settings, epochs=1).checkpoint_ids
    known = Models(server.app.state.resources.reading, clock=clock)
    with pytest.raises(Problem):
        find(server, known, "a")
    monkeypatch.setattr(models, "_REMEMBERED", 3)
    for name in "abcdef":
        point(server, name, one)
        assert find(server, known, name) == one
        assert len(known._known) <= 3
    with pytest.raises(Problem):
        find(server, known, ids.new("ckpt"))
