"""Requests that wait together, processes that end under load, and what is too much or too late."""

import asyncio
import dataclasses
import json
import os
import signal
import time

import pytest
import torch

from app.inference import peer, pool
from app.inference.entry import OBJECT_BYTES
from app.predictor import Asked
from models_store import reduced
from models_store.classifier import Classifier
from problems import Problem

NATIVE = reduced.is_native(torch.device("cpu"))


def asked(checkpoint_id, *images, **given) -> Asked:
    names = [f"{number}.png" for number in range(len(images))]
    options = {"top_k": 10, "threshold": 0.0, "explain": None}
    return Asked(checkpoint_id, names, images, **(options | given))


async def answer(predictor, *about, **given):
    return json.loads(await predictor.classify(asked(*about, **given)))


def probabilities(one) -> list[float]:
    return [guess["probability"] for guess in sorted(one["top"], key=lambda g: g["index"])]


def truth(settings, checkpoint_id, images) -> list[list[float]]:
    classifier = Classifier.load(settings.checkpoints / checkpoint_id)
    return [one.probabilities.tolist() for one in classifier.classify(images)]


def check(found, expected) -> None:
    assert probabilities(found) == pytest.approx(expected, abs=1e-3)


def pids(predictor) -> list[int]:
    return [pid for pid, _ in predictor.pool.pids()]


@pytest.fixture
def stop(suspend):
    """Its processes answer nothing until `go_on`."""

    def stop(predictor) -> None:
        for pid in pids(predictor):
            suspend(pid)

    return stop


def go_on(predictor) -> None:
    for pid in pids(predictor):
        os.kill(pid, signal.SIGCONT)


async def until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "precision",
    ["fp32", pytest.param("bf16", marks=pytest.mark.skipif(not NATIVE, reason="not native"))],
)
def test_what_waits_together_goes_together_and_each_gets_its_own(
    settings, train, png, predicting, stop, precision
):
    made = train(settings)
    images = [png(seed) for seed in range(10)]

    async def ask():
        async with predicting(settings.checkpoints, precision=precision) as predictor:
            alone = [(await answer(predictor, made.best, image))[0] for image in images]
            stop(predictor)
            sent = [asyncio.create_task(answer(predictor, made.best, image)) for image in images]
            await asyncio.sleep(0.05)
            assert predictor.requests == 10
            go_on(predictor)
            together = [one for [one] in await asyncio.gather(*sent)]
            [serving] = predictor.serving()
            [in_one] = [await answer(predictor, made.best, *images)]
            return alone, together, in_one, serving

    alone, together, in_one, serving = asyncio.run(ask())
    assert serving.batches == {1: 10, 8: 1, 2: 1}
    assert (serving.requests, serving.images, serving.processes) == (20, 20, 1)
    assert (serving.device, serving.precision) == ("cpu", precision)
    assert serving.seconds > 0
    expected = truth(settings, made.best, images)
    for each in zip(alone, together, in_one, expected, strict=True):
        for found in each[:3]:
            assert found["label"] == each[0]["label"]
            assert probabilities(found) == pytest.approx(probabilities(each[0]), abs=1e-3)
            if precision == "fp32":
                check(found, each[3])


def test_good_and_bad_images_among_each_other(settings, train, png, predicting):
    made = train(settings, epochs=1)
    refused = Problem("image_too_large", "The image is larger than 3 bytes.")
    images = [b"", png(1), refused, b"hello", png(2), png(3)[:200]]

    async def ask():
        async with predicting(settings.checkpoints) as predictor:
            found = await answer(predictor, made.best, *images, explain="input")
            with pytest.raises(Problem) as caught:
                await answer(predictor, made.best, b"hello")
            nothing = await answer(predictor, made.best, b"", b"")
            return found, caught.value, nothing

    found, problem, nothing = asyncio.run(ask())
    codes = [one["error"]["code"] if "error" in one else None for one in found]
    assert codes == [
        *("empty_file", None, "image_too_large", "not_an_image", None, "truncated_image"),
    ]
    assert found[2]["error"] == refused.as_dict()
    assert [one["filename"] for one in found] == [f"{number}.png" for number in range(6)]
    expected = truth(settings, made.best, [png(1), png(2)])
    for one, right in zip((found[1], found[4]), expected, strict=True):
        check(one, right)
        assert one["explanation"]["png_base64"]
    assert (problem.code, [one["error"]["code"] for one in nothing]) == (
        *("not_an_image", ["empty_file"] * 2),
    )


def test_several_models_beyond_the_memory_are_answered_rightly(settings, train, png, predicting):
    ids = train(settings, epochs=4).checkpoint_ids
    size = (settings.checkpoints / ids[0] / "model.safetensors").stat().st_size + OBJECT_BYTES
    expected = {one: truth(settings, one, [png()])[0] for one in ids}

    async def ask():
        async with predicting(settings.checkpoints, memory_bytes=int(1.5 * size)) as predictor:
            chosen = [ids[number % 4] for number in range(24)]
            found = await asyncio.gather(*(answer(predictor, one, png()) for one in chosen))
            for one, [given] in zip(chosen, found, strict=True):
                check(given, expected[one])
            predictor.pool.tidy()
            return sum(one.memory_bytes for one in predictor.pool.warm())

    assert asyncio.run(ask()) <= 1.5 * size


def test_processes_that_are_killed_under_load_lose_no_request(settings, train, png, predicting):
    made = train(settings)
    images = [png(seed) for seed in range(8)]
    expected = truth(settings, made.best, images)

    async def ask():
        async with predicting(settings.checkpoints, processes=2) as predictor:
            await predictor.pool.load(made.best)
            over = False
            answered = [0] * 32

            async def client(number):
                while not over:
                    [found] = await answer(predictor, made.best, images[number % 8])
                    check(found, expected[number % 8])
                    answered[number] += 1

            async def each_is_answered():
                """Also what was asked twice; a process that ended again would be its fault."""
                wanted = [count + 3 for count in answered]
                await until(lambda: all(a >= b for a, b in zip(answered, wanted, strict=True)))

            clients = [asyncio.create_task(client(number)) for number in range(32)]
            for _ in range(3):
                await each_is_answered()
                os.kill(pids(predictor)[0], signal.SIGKILL)
            await each_is_answered()
            over = True
            await asyncio.gather(*clients)

    asyncio.run(ask())


async def crowded(predictor, checkpoint_id, image) -> None:
    """Two processes have it then."""
    while not (predictor.serving() and predictor.serving()[0].processes == 2):
        await asyncio.gather(*(answer(predictor, checkpoint_id, image) for _ in range(40)))


def test_a_request_that_ends_its_process_twice_is_given_up(settings, train, png, predicting, stop):
    """Both processes are stopped, so that what ends them is what they were asked."""
    made = train(settings, epochs=1)

    async def ask():
        async with predicting(settings.checkpoints, processes=2) as predictor:
            await crowded(predictor, made.best, png())
            stop(predictor)
            one = asyncio.create_task(answer(predictor, made.best, png()))
            await asyncio.sleep(0.05)
            first, second = pids(predictor)
            os.kill(first, signal.SIGKILL)
            await until(lambda: first not in pids(predictor))
            await asyncio.sleep(0.05)
            assert not one.done()
            beside = asyncio.create_task(answer(predictor, made.best, png(1)))
            await asyncio.sleep(0.05)
            os.kill(second, signal.SIGKILL)
            with pytest.raises(Problem) as caught:
                await one
            assert caught.value.code == "internal"
            [found] = await beside
            check(found, truth(settings, made.best, [png(1)])[0])

    asyncio.run(ask())


def test_nobody_is_blamed_for_what_was_asked_before(settings, train, png, predicting, stop):
    """One that was asked alone stands behind others when their process ends."""
    made = train(settings, epochs=1)
    images = [png(seed) for seed in range(6)]

    async def ask():
        async with predicting(settings.checkpoints, processes=2) as predictor:
            await crowded(predictor, made.best, png())
            stop(predictor)
            sent = [asyncio.create_task(answer(predictor, made.best, one)) for one in images]
            await asyncio.sleep(0.05)
            for pid in pids(predictor):
                os.kill(pid, signal.SIGKILL)
                await until(lambda pid=pid: pid not in pids(predictor))
            found = [one for [one] in await asyncio.gather(*sent)]
            for one, expected in zip(found, truth(settings, made.best, images), strict=True):
                check(one, expected)

    asyncio.run(ask())


OVER = "overloaded"


@pytest.mark.parametrize(
    ("request_bytes", "codes"),
    [
        (1 << 30, [None, None, None, OVER, OVER]),  # three in number
        (1500, [None, OVER, OVER, "not_an_image", "not_an_image"]),
        (100, [None, OVER, OVER, OVER, OVER]),  # one too large is taken where none waits
    ],
)
def test_more_than_may_wait_are_refused_at_once(
    settings, train, png, predicting, stop, request_bytes, codes
):
    made = train(settings, epochs=1)
    images = [png(), png(), png(), b"x", b"x"]
    assert 800 < len(png()) < 1400

    async def ask():
        bounds = {"requests": 3, "request_bytes": request_bytes}
        async with predicting(settings.checkpoints, **bounds) as predictor:
            await predictor.pool.load(made.best)
            stop(predictor)
            sent = [asyncio.create_task(answer(predictor, made.best, one)) for one in images]
            await asyncio.sleep(0.05)
            assert predictor.requests == 5 - codes.count(OVER)
            go_on(predictor)
            done = await asyncio.gather(*sent, return_exceptions=True)
            assert await answer(predictor, made.best, png())
            return [getattr(one, "code", None) for one in done]

    assert asyncio.run(ask()) == codes


def test_too_late_is_an_error_and_what_waited_behind_it_goes_on(
    settings, train, png, predicting, stop, monkeypatch
):
    monkeypatch.setattr(pool, "_GRACE_SECONDS", 0.2)
    made = train(settings, epochs=1)

    async def ask():
        async with predicting(settings.checkpoints, seconds=0.5) as predictor:
            await predictor.pool.load(made.best)
            stop(predictor)
            [hanging] = pids(predictor)
            with pytest.raises(Problem) as caught:
                await answer(predictor, made.best, png())
            assert caught.value.code == "too_slow"
            assert predictor.requests == 0
            predictor.pool.tidy()
            assert pids(predictor) == [hanging]
            await asyncio.sleep(0.3)  # nothing was asked of it meanwhile, and it still owes
            predictor.pool.tidy()
            await until(lambda: pids(predictor) != [hanging])
            await predictor.pool.load(made.best)
            # This may take as long as it likes; what hangs is still found after 0.7 s.
            predictor._bounds = dataclasses.replace(predictor._bounds, seconds=60.0)
            assert await answer(predictor, made.best, png())
            await asyncio.sleep(0.8)
            predictor.pool.tidy()
            assert len(predictor.pool.warm()) == 1, "one with nothing to do is no one that hangs"

    asyncio.run(ask())


def test_who_gives_up_leaves_room_for_those_behind(settings, train, png, predicting, stop):
    """Of what the process was given nothing is left, and more waits than it could be given."""
    made = train(settings, epochs=1)

    async def ask():
        async with predicting(settings.checkpoints) as predictor:
            await predictor.pool.load(made.best)
            stop(predictor)
            gone = [asyncio.create_task(answer(predictor, made.best, b"x")) for _ in range(128)]
            await asyncio.sleep(0.05)
            behind = [asyncio.create_task(answer(predictor, made.best, png())) for _ in range(3)]
            await asyncio.sleep(0.05)
            for one in gone:
                one.cancel()
            await asyncio.sleep(0.05)
            go_on(predictor)
            found = await asyncio.wait_for(asyncio.gather(*behind), 60)
            [serving] = predictor.serving()
            assert serving.images == 3, "nobody waits for the others"
            return found

    assert len(asyncio.run(ask())) == 3


def test_of_large_images_only_some_are_out_of_reach(
    settings, train, png, predicting, stop, monkeypatch
):
    """What nobody waits for any more does not lie in front of others, and takes no memory."""
    monkeypatch.setattr(peer, "_WINDOW_BYTES", 2_000_000)
    made = train(settings, epochs=1)

    async def ask():
        async with predicting(settings.checkpoints) as predictor:
            await predictor.pool.load(made.best)
            stop(predictor)
            for _ in range(2):
                large = (answer(predictor, made.best, bytes(1_000_000)) for _ in range(10))
                gone = [asyncio.create_task(one) for one in large]
                await asyncio.sleep(0.05)
                for one in gone:
                    one.cancel()
                await asyncio.sleep(0.05)
            go_on(predictor)
            [found] = await answer(predictor, made.best, png())
            check(found, truth(settings, made.best, [png()])[0])
            [serving] = predictor.serving()
            return serving.images

    assert asyncio.run(ask()) <= 2 + 1


@pytest.mark.parametrize("what", ["dies", "is left alone"])
def test_what_waits_for_another_model_goes_on_when_its_process(
    settings, train, png, predicting, stop, what
):
    """It could be given nothing, so full was the process of the other model's."""
    first, second = train(settings, epochs=2).checkpoint_ids

    async def ask():
        async with predicting(settings.checkpoints) as predictor:
            await predictor.pool.load(first)
            await predictor.pool.load(second)
            stop(predictor)
            sent = [asyncio.create_task(answer(predictor, first, b"x")) for _ in range(128)]
            await asyncio.sleep(0.05)
            waits = asyncio.create_task(answer(predictor, second, png()))
            await asyncio.sleep(0.05)
            if what == "dies":
                os.kill(pids(predictor)[0], signal.SIGKILL)
            else:
                for one in sent:
                    one.cancel()
                await asyncio.sleep(0.05)
                go_on(predictor)
            [found] = await asyncio.wait_for(waits, 60)
            await asyncio.gather(*sent, return_exceptions=True)
            return found

    check(asyncio.run(ask()), truth(settings, second, [png()])[0])


def test_bad_images_alone_keep_nobody_waiting(settings, train, png, predicting):
    made = train(settings, epochs=1)

    async def ask():
        async with predicting(settings.checkpoints) as predictor:
            images = [b"x"] * 300 + [png()]
            sent = [answer(predictor, made.best, image) for image in images]
            return await asyncio.wait_for(asyncio.gather(*sent, return_exceptions=True), 60)

    found = asyncio.run(ask())
    assert {getattr(one, "code", None) for one in found[:-1]} == {"not_an_image"}
    assert found[-1][0]["label"]
