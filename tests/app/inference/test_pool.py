"""Real processes: what they have loaded, within which bounds, and what becomes of it."""

import asyncio
import contextlib
import os
import signal
import time

import pytest

from app.inference import pool
from app.inference.entry import OBJECT_BYTES
from app.inference.pool import Pool
from problems import Problem


def pid_of(predictor) -> int:
    [(pid, _)] = predictor.pool.pids()
    return pid


def warm(predictor) -> list[str]:
    return [one.checkpoint_id for one in predictor.pool.warm()]


def loading(predictor) -> set[str]:
    """What its processes have been told to load."""
    return {one for process in predictor.pool._processes for one in process.loading}


async def until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def killed(pid: int) -> None:
    """Returns once it is no more, before the loop of who calls has turned."""
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.01)


def blocked(folder) -> None:
    """Whoever loads it waits for a writer that never comes."""
    weights = folder / "model.safetensors"
    weights.unlink()
    os.mkfifo(weights)


def test_one_is_loaded_once_however_many_ask(settings, train, predicting, caplog):
    made = train(settings)

    async def ask():
        async with predicting(settings.checkpoints, processes=4) as predictor:
            await asyncio.gather(*(predictor.pool.load(made.best) for _ in range(20)))
            [found] = predictor.pool.warm()
            return found

    with caplog.at_level("INFO"):
        found = asyncio.run(ask())
    assert caplog.text.count(f"{made.best} is loaded") == 1  # servers of other tests load theirs
    assert (found.checkpoint_id, found.processes, found.device) == (made.best, 1, "cpu")
    assert found.precision == "fp32"
    size = (settings.checkpoints / made.best / "model.safetensors").stat().st_size
    assert size / 2 < found.memory_bytes - OBJECT_BYTES <= size


def test_the_least_recently_used_is_let_go_when_the_memory_is_wanted(settings, train, predicting):
    ids = train(settings, epochs=4).checkpoint_ids
    size = (settings.checkpoints / ids[0] / "model.safetensors").stat().st_size + OBJECT_BYTES

    async def ask():
        async with predicting(settings.checkpoints, memory_bytes=int(2.5 * size)) as predictor:
            for one in ids[:3]:
                await predictor.pool.load(one)
            assert warm(predictor) == sorted(ids[1:3])
            assert not predictor.pool.has_room(ids[0])
            await asyncio.gather(*map(predictor.pool.load, ids))
            return sum(one.memory_bytes for one in predictor.pool.warm())

    assert size < asyncio.run(ask()) <= 2.5 * size


def test_what_is_idle_is_unloaded(settings, train, predicting):
    first, second = train(settings).checkpoint_ids

    async def ask():
        async with predicting(settings.checkpoints, idle_seconds=1000) as predictor:
            await predictor.pool.load(first)
            predictor.pool.tidy()
            assert warm(predictor) == [first]
            [process] = predictor.pool.having(first)
            process.warm[first].used -= 1001
            await predictor.pool.load(second)
            predictor.pool.tidy()
            assert warm(predictor) == [second]

    asyncio.run(ask())


def test_what_is_forgotten_while_it_is_loaded_does_not_stay(settings, train, predicting, suspend):
    first, second = train(settings).checkpoint_ids

    async def ask():
        async with predicting(settings.checkpoints) as predictor:
            await predictor.pool.load(first)
            suspend(pid_of(predictor))
            load = asyncio.create_task(predictor.pool.load(second))
            await until(lambda: loading(predictor) == {second})
            predictor.pool.forget(first)
            predictor.pool.forget(second)
            await until(lambda: warm(predictor) == [])
            os.kill(pid_of(predictor), signal.SIGCONT)
            with pytest.raises(Problem) as caught:
                await load
            assert caught.value.code == "checkpoint_not_found"
            assert warm(predictor) == []
            await predictor.pool.load(second)  # it can be had again
            assert warm(predictor) == [second]

    asyncio.run(ask())


def test_what_cannot_be_loaded_is_tried_again(settings, train, predicting):
    made = train(settings, epochs=1)
    folder = settings.checkpoints / made.best

    async def ask():
        async with predicting(settings.checkpoints) as predictor:
            away = folder.rename(folder.with_name("away"))
            for _ in range(2):
                with pytest.raises(Problem) as caught:
                    await predictor.pool.load(made.best)
                assert caught.value.code == "checkpoint_not_found"
            assert caught.value.hint
            away.rename(folder)
            (folder / "evaluation.json").write_text("?")
            with pytest.raises(Problem) as caught:
                await predictor.pool.load(made.best)
            assert caught.value.code == "checkpoint_damaged"
            (folder / "evaluation.json").unlink()
            await predictor.pool.load(made.best)
            assert warm(predictor) == [made.best]

    asyncio.run(ask())


def test_one_that_ends_its_process_takes_no_other_with_it(settings, train, predicting):
    """Loading it twice ends a process each time; what is loaded beside it is loaded in the next."""
    bad, good = train(settings).checkpoint_ids
    blocked(settings.checkpoints / bad)

    async def ask():
        async with predicting(settings.checkpoints) as predictor:
            await predictor.pool.start()
            load = asyncio.create_task(predictor.pool.load(bad))
            await until(lambda: loading(predictor) == {bad})
            beside = asyncio.create_task(predictor.pool.load(good))
            await until(lambda: loading(predictor) == {bad, good})
            killed = pid_of(predictor)
            os.kill(killed, signal.SIGKILL)
            await until(lambda: predictor.pool.pids() and pid_of(predictor) != killed)
            await until(lambda: loading(predictor) == {bad})
            os.kill(pid_of(predictor), signal.SIGKILL)
            with pytest.raises(Problem) as caught:
                await load
            assert caught.value.code == "internal"
            await beside
            assert warm(predictor) == [good]

    asyncio.run(ask())


def test_one_that_is_to_load_as_it_dies_keeps_nobody_waiting(settings, train, predicting):
    """The server hears of the death after it has chosen the process, before it has asked it."""
    first, second = train(settings).checkpoint_ids

    async def ask():
        async with predicting(settings.checkpoints) as predictor:
            await predictor.pool.load(first)
            killed(pid_of(predictor))
            await asyncio.wait_for(predictor.pool.load(second), 20)
            return warm(predictor)

    assert asyncio.run(ask()) == [second]


def test_a_process_that_hangs_is_ended(settings, train, predicting, monkeypatch):
    monkeypatch.setattr(pool, "_GRACE_SECONDS", 0.1)
    bad, good = train(settings).checkpoint_ids
    blocked(settings.checkpoints / bad)

    async def ask():
        async with predicting(settings.checkpoints, seconds=0.3) as predictor:
            await predictor.pool.load(good)
            load = asyncio.create_task(predictor.pool.load(bad))
            await until(lambda: loading(predictor) == {bad})
            predictor.pool.tidy()
            assert warm(predictor) == [good]
            hanging = pid_of(predictor)
            while not load.done():  # in the next process it hangs too
                predictor.pool.tidy()
                await asyncio.sleep(0.05)
            assert isinstance(load.exception(), Problem)
            await predictor.pool.load(good)
            assert pid_of(predictor) != hanging

    asyncio.run(ask())


def test_another_device_is_another_process(settings, train, predicting):
    """`meta` computes nothing: what is loaded there is not what is asked here."""
    made = train(settings, epochs=1)
    device = "cpu"

    async def ask():
        nonlocal device
        async with predicting(settings.checkpoints, device=lambda: device) as predictor:
            await predictor.pool.load(made.best)
            device = "meta"
            assert predictor.pool.having(made.best) == []
            with pytest.raises(Problem):
                await predictor.pool.load(made.best)
            assert sorted(name for _, name in predictor.pool.pids()) == ["cpu", "meta"]
            device = "cpu"
            await predictor.pool.load(made.best)
            assert len(predictor.pool.having(made.best)) == 1

    asyncio.run(ask())


def test_a_pool_that_was_closed_starts_nothing(settings, train, predicting):
    made = train(settings, epochs=1)

    async def ask():
        async with predicting(settings.checkpoints) as predictor:
            await predictor.pool.start()
            pid = pid_of(predictor)
        with pytest.raises(Problem) as caught:
            await predictor.pool.load(made.best)
        assert caught.value.code == "not_ready"
        return pid

    with pytest.raises(ProcessLookupError):
        os.kill(asyncio.run(ask()), 0)


def test_one_for_which_there_is_no_room_is_loaded_in_place_of_what_is_idle(
    settings, train, predicting, monkeypatch
):
    """As a GPU would say it, whose memory the server does not count."""
    first, second = train(settings, epochs=2).checkpoint_ids
    full = {"code": "overloaded", "detail": "Full.", "hint": "Wait.", "errors": []}
    plain = Pool._heard_of_load
    refused = []

    def heard(self, process, said):
        if said["checkpoint"] == second and first in process.warm:
            refused.append(second)
            said = {"did": "load", "checkpoint": second, "problem": full}
        plain(self, process, said)

    monkeypatch.setattr(Pool, "_heard_of_load", heard)

    async def ask():
        async with predicting(settings.checkpoints) as predictor:
            await predictor.pool.load(first)
            await predictor.pool.load(second)
            return warm(predictor)

    assert asyncio.run(ask()) == [second]
    assert refused == [second]


def test_one_that_is_let_go_of_as_soon_as_it_is_loaded_keeps_nobody_waiting(
    settings, train, predicting, monkeypatch
):
    """Who asks in that moment asks again, and lets others have their turn."""
    made = train(settings, epochs=1)

    async def ask():
        async with predicting(settings.checkpoints) as predictor:
            held = predictor.pool
            loads = []

            async def load(checkpoint_id):
                loads.append(checkpoint_id)

            seen = iter([[], [], [], ["it"], ["it"], ["it"]])
            monkeypatch.setattr(held, "_load", load)
            monkeypatch.setattr(held, "having", lambda _: next(seen))
            asking = [asyncio.create_task(held.load(made.best)) for _ in range(2)]
            await asyncio.wait_for(asyncio.gather(*asking), 5)
            return len(loads)

    assert asyncio.run(ask()) >= 2


def test_a_process_that_never_begins_is_ended(settings, train, predicting, monkeypatch):
    monkeypatch.setattr(pool, "_LONGEST_START_SECONDS", 0.2)
    monkeypatch.setattr(pool, "_GRACE_SECONDS", 0.2)
    made = train(settings, epochs=1)
    plain = Pool._hear
    silent = []

    def hear(self, process, said, data):
        if said["did"] == "start" and not silent:
            silent.append(process.link.pid)
            return
        plain(self, process, said, data)

    monkeypatch.setattr(Pool, "_hear", hear)

    async def ask():
        async with predicting(settings.checkpoints, seconds=0.1) as predictor:
            load = asyncio.create_task(predictor.pool.load(made.best))
            await until(lambda: silent)
            await asyncio.sleep(0.4)
            predictor.pool.tidy()
            await load
            return pid_of(predictor)

    assert asyncio.run(ask()) not in silent
