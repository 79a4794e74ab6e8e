"""What it takes to point an alias elsewhere without anybody noticing."""

import shutil
import threading
from functools import partial

import pytest

from app import aliases
from database import aliases as rows
from problems import Problem


def point(server, checkpoint_id, *, by="lin"):
    held = server.app.state.resources
    return server.portal.call(partial(aliases.point, held, "production", checkpoint_id, by=by))


def test_a_checkpoint_is_loaded_before_the_alias_points_at_it(server, train, monkeypatch):
    held = server.app.state.resources
    first, second = train(server.settings).checkpoint_ids
    point(server, first)
    load, seen = held.predictor.pool.load, []

    async def loading(checkpoint_id):
        seen.append(held.models.meant("production").checkpoint_id)
        await load(checkpoint_id)

    monkeypatch.setattr(held.predictor.pool, "load", loading)
    made = point(server, second, by="wei")
    assert seen == [first]
    assert (made.checkpoint_id, made.warm, made.updated_by) == (second, True, "wei")
    assert held.models.meant("production").checkpoint_id == second


def test_what_cannot_be_loaded_changes_nothing(server, train):
    held = server.app.state.resources
    first, second = train(server.settings).checkpoint_ids
    point(server, first)
    (server.settings.checkpoints / second / "model.safetensors").write_bytes(b"?")
    with pytest.raises(Problem) as caught:
        point(server, second)
    assert caught.value.code == "checkpoint_damaged"
    assert held.models.meant("production").checkpoint_id == first


def test_damaged_files_do_not_hide_an_alias(server, train):
    held = server.app.state.resources
    [one] = train(server.settings, epochs=1).checkpoint_ids
    made = point(server, one)
    assert (len(made.classes), made.input) == (10, "1x28x28")
    assert (made.serving.processes, made.serving.device, made.serving.requests) == (1, "cpu", 0)
    shutil.rmtree(server.settings.checkpoints / one)
    with held.reading() as session:
        [found] = aliases.read(held, session, rows.find(session).items)
    assert (found.checkpoint_id, found.classes, found.input) == (one, None, None)


def test_swaps_under_load_fail_no_request(server, train, png):
    """Each answer names the old or the new checkpoint, and has that one's probabilities."""
    first, second = train(server.settings).checkpoint_ids
    image = png()
    right = {
        one: server.post(f"/predict?model={one}", content=image).json()["predictions"]
        for one in (first, second)
    }
    assert right[first] != right[second]
    point(server, first)
    over, answers = threading.Event(), []

    def ask():
        while not over.is_set():
            answers.append(server.post("/predict?model=production", content=image))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for turn in range(50):
        point(server, (second, first)[turn % 2])
    over.set()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {200}
    for answer in (one.json() for one in answers):
        expected = right[answer["checkpoint_id"]]
        assert [p["label"] for p in answer["predictions"]] == [p["label"] for p in expected]
        given = answer["predictions"][0]["probability"]
        assert given == pytest.approx(expected[0]["probability"], abs=1e-3)
    assert {one.json()["checkpoint_id"] for one in answers} == {first, second}
