"""What aliases point at is loaded when a server starts, as far as that can be done."""

import asyncio
import time

import pytest

from app.resources import Resources
from database import aliases, engine
from problems import Problem
from settings import Settings


@pytest.fixture
def point():
    def point(settings, **targets):
        database = engine.connect(settings.database)
        with engine.session_factory(database).begin() as session:
            for alias, checkpoint_id in targets.items():
                aliases.point(session, alias, checkpoint_id, by="lin")
        database.dispose()

    return point


def loaded(settings) -> tuple[str, list[str]]:
    held = Resources.of(settings)

    async def load():
        await held.preloading.run()
        warm = [one.checkpoint_id for one in held.predictor.pool.warm()]
        await held.predictor.pool.close()
        return warm

    warm = asyncio.run(load())
    held.database.dispose()
    return held.preloading.state, warm


def test_a_damaged_model_keeps_no_other_from_being_loaded(settings, train, point, caplog):
    first, second, third = train(settings, epochs=3).checkpoint_ids
    point(settings, a=first, b=second, c=third, also=third)
    (settings.checkpoints / second / "model.safetensors").write_bytes(b"?")
    assert loaded(settings) == ("ok", sorted([first, third]))
    assert f"{second} cannot be loaded" in caplog.text


@pytest.mark.parametrize(
    ("names", "chosen"), [("*", {0, 1, 2}), ("b,nobody", {1}), ("b,default", {0, 1}), ("x", set())]
)
def test_only_what_the_setting_names(settings, train, point, names, chosen):
    ids = train(settings, epochs=3).checkpoint_ids
    point(settings, default=ids[0], b=ids[1], c=ids[2])
    asked = Settings(home=settings.home, predict_preload=names)
    assert loaded(asked) == ("ok", sorted(ids[number] for number in chosen))


def test_no_more_than_there_is_memory_for_and_the_default_first(settings, train, point, caplog):
    first, second = train(settings).checkpoint_ids
    point(settings, a=first, default=second)
    assert loaded(Settings(home=settings.home, predict_memory_mb=7)) == ("ok", [second])
    assert f"{first} is not loaded yet" in caplog.text


def test_a_server_is_ready_once_it_is_done_and_says_what_is_warm(settings, train, point, serve):
    made = train(settings, epochs=1)
    point(settings, production=made.best)
    with serve(settings) as server:
        deadline = time.monotonic() + 20
        while server.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        [model] = server.get("/models").json()["items"]
        assert model["warm"] is True
        assert model["serving"] == {
            **{"processes": 1, "device": "cpu", "precision": "fp32", "requests": 0, "images": 0},
            **{"seconds": 0.0, "batches": {}, "memory_bytes": model["serving"]["memory_bytes"]},
        }


def test_without_a_process_nothing_is_ready_until_there_is_one(settings, monkeypatch):
    held = Resources.of(settings)
    tried = []

    async def refuse_once() -> int:
        tried.append(held.preloading.state)
        if len(tried) == 1:
            raise Problem("not_ready", "No process can be started.")
        return 0

    engine.migrate(f"sqlite:///{settings.home / 'danlu.sqlite3'}")
    monkeypatch.setattr(held.predictor.pool, "start", refuse_once)
    monkeypatch.setattr("app.preloading._PAUSE_SECONDS", 0.01)
    asyncio.run(held.preloading.run())
    held.database.dispose()
    assert tried == ["loading", "failed"]
    assert held.preloading.state == "ok"
