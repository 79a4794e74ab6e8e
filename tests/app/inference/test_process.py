"""What a process makes of what it is told, in a thread of this one, through its socket."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from app.inference import process
from app.inference.entry import Plan
from app.inference.messages import Reader, pack
from models_store import checkpoints
from models_store.classifier import Classifier


class Asking:
    """The server's end of the socket."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self._heard = self._messages()

    def _messages(self):
        reader = Reader()
        while piece := self.channel.recv(1000):
            yield from reader.feed(piece)

    def say(self, *messages) -> None:
        packed = [pack(said, data) for said, data in messages]
        self.channel.sendall(b"".join(piece for pieces in packed for piece in pieces))

    def hear(self):
        return next(self._heard)


@pytest.fixture
def asking(settings, monkeypatch) -> Iterator[Asking]:
    """Of a process that takes no batch to be slow, however busy the machine is."""
    monkeypatch.setattr(process, "_BATCH_SECONDS", 60.0)
    ours, theirs = socket.socketpair()
    plan = Plan(settings.checkpoints, "cpu", "auto", threads=1, cores=2, log_level="error")
    threads = torch.get_num_threads()
    working = threading.Thread(target=process.run, args=(theirs, plan))
    working.start()
    with theirs, ours:
        ours.settimeout(30)
        yield Asking(ours)
        ours.shutdown(socket.SHUT_RDWR)
        working.join(30)
    torch.set_num_threads(threads)
    assert not working.is_alive(), "it ends when the server hangs up"


def classify(number, checkpoint_id, *images, alone=False, idle=False, explain=None):
    said = {
        "do": "classify",
        "number": number,
        "checkpoint": checkpoint_id,
        "filenames": [None] * len(images),
        "sizes": [len(one) for one in images],
        "top_k": 1,
        "threshold": 0,
        "explain": explain,
        "alone": alone,
        "idle": idle,
    }
    return said, images


def load(checkpoint_id):
    return {"do": "load", "checkpoint": checkpoint_id}, ()


def test_it_tells_what_it_sees_and_loads(asking, settings, train):
    made = train(settings)
    assert asking.hear() == ({"did": "start", "gpus": torch.cuda.device_count()}, b"")
    asking.say(load(made.best), load("ckpt_9"))
    said, _ = asking.hear()
    assert (said["did"], said["checkpoint"]) == ("load", made.best)
    assert (said["precision"], said["bytes"] > 1_000_000) == ("fp32", True)
    said, _ = asking.hear()
    assert said["problem"]["code"] == "checkpoint_not_found"


def test_what_waits_fills_powers_of_two_well(asking, settings, train, png):
    """Of 10 images 8 go first: 16 would be filled up with nothing. 13 go at once."""
    made = train(settings)
    asking.say(load(made.best))
    for count, batches in ((10, [8, 2]), (13, [13]), (5, [4, 1])):
        asking.say(*[classify(number, made.best, png(number)) for number in range(count)])
        heard = [said for said, _ in _until_answered(asking, count)]
        assert [said["images"] for said in heard if said["did"] == "batch"] == batches


def test_one_at_a_time_where_one_may_end_the_process(asking, settings, train, png):
    made = train(settings)
    asking.say(load(made.best), *[classify(n, made.best, png(n), alone=n < 2) for n in range(5)])
    heard = [said for said, _ in _until_answered(asking, 5)]
    assert [said["images"] for said in heard if said["did"] == "batch"] == [1, 1, 3]


def test_an_image_that_comes_alone_is_answered_as_any_other(asking, settings, train, png):
    """It may be computed with more threads."""
    made = train(settings)
    asking.say(load(made.best))
    asking.say(classify(1, made.best, png(7), idle=True), classify(2, made.best, png(7)))
    answers = [json.loads(data) for said, data in _until_answered(asking, 2) if data]
    [[first], [second]] = answers
    assert first["label"] == second["label"]
    assert first["probability"] == pytest.approx(second["probability"], abs=1e-3)


def test_of_a_batch_that_fails_each_is_answered_for_itself(asking, settings, train, png):
    """A network that takes no even number of images at a time stands for one that has no room."""
    made = train(settings)
    asking.say(load(made.best))
    asking.hear(), asking.hear()
    plain = torch.nn.Conv2d.forward

    def tight(self, inputs):
        if len(inputs) > 1:
            raise MemoryError
        return plain(self, inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Conv2d, "forward", tight)
        asking.say(
            classify(1, made.best, png(1)),
            classify(2, made.best, png(2), png(3)),
            classify(3, made.best, png(3)),
        )
        heard = {said["number"]: (said, data) for said, data in _until_answered(asking, 3)
                 if said["did"] == "classify"}  # fmt: skip
    assert heard[2][0]["problem"]["code"] == "overloaded"
    assert all(json.loads(heard[number][1])[0]["label"] for number in (1, 3))


def test_what_is_dropped_is_not_computed_and_what_was_asked_before_is(
    asking, settings, train, png, monkeypatch
):
    given_back = []
    monkeypatch.setattr(process, "_give_back", lambda: given_back.append(True))
    made = train(settings)
    asking.say(
        load(made.best),
        classify(1, made.best, png(1)),
        classify(2, made.best, png(2)),
        ({"do": "drop", "number": 1}, ()),
        ({"do": "unload", "checkpoint": made.best}, ()),
        classify(3, made.best, png(3)),
    )
    heard = [asking.hear() for _ in range(6)]
    assert [said["did"] for said, _ in heard[:3]] == ["start", "load", "drop"]
    answered = {said["number"]: said for said, _ in heard[3:] if said["did"] == "classify"}
    assert set(answered) == {2, 3}
    assert "problem" not in answered[2]
    assert answered[3]["problem"]["code"] == "checkpoint_not_found"
    assert given_back == [True], "its memory goes to the system"


class Decoding:
    """Stands still at the first image, until it `goes_on`; `files` are those that it has begun."""

    def __init__(self) -> None:
        self.files: list[bytes] = []
        self.goes_on = threading.Event()

    def has_begun(self) -> None:
        while not self.files:
            time.sleep(0.01)


@pytest.fixture
def decoding(monkeypatch):
    """Of a process that takes every image to be decoded for long."""
    monkeypatch.setattr(process, "_SILENCE_SECONDS", -1.0)
    slow, plain = Decoding(), Classifier._decode

    def decode(self, file):
        slow.files.append(file)
        assert slow.goes_on.wait(20)
        return plain(self, file)

    monkeypatch.setattr(Classifier, "_decode", decode)
    return slow


def test_what_is_dropped_while_it_is_decoded_is_left(asking, decoding, settings, train, png):
    made = train(settings)
    asking.say(load(made.best))
    asking.hear(), asking.hear()
    asking.say(classify(1, made.best, *[png()] * 10))
    decoding.has_begun()
    asking.say(({"do": "drop", "number": 1}, ()), classify(2, made.best, png(1)))
    decoding.goes_on.set()
    heard = [said for said, _ in _until_answered(asking, 1)]
    assert len(decoding.files) == 2  # the first of ten, and the one that was asked for afterwards
    assert {said["number"] for said in heard if said["did"] == "classify"} == {2}
    assert any(said["did"] == "working" for said in heard)


def test_a_batch_that_is_decoded_for_long_is_answered_as_far_as_it_goes(
    asking, decoding, settings, train, png
):
    """The rest waits for the next one, but for what nobody waits for any more."""
    made = train(settings)
    asking.say(load(made.best))
    asking.hear(), asking.hear()
    files = [png(number) for number in range(5)]
    asking.say(
        classify(1, made.best, *files[:2]),
        *[classify(number, made.best, files[number]) for number in (2, 3, 4)],
    )
    decoding.has_begun()
    asking.say(({"do": "drop", "number": 3}, ()))
    decoding.goes_on.set()
    heard = [said for said, _ in _until_answered(asking, 3)]
    assert [said["number"] for said in heard if said["did"] == "classify"] == [1, 2, 4]
    assert [said["images"] for said in heard if said["did"] == "batch"] == [2, 1, 1]
    assert decoding.files == [files[number] for number in (0, 1, 2, 4)]


@pytest.mark.parametrize("is_broken", [True, False])
def test_a_gpu_that_has_failed_ends_the_process(settings, monkeypatch, is_broken):
    """Played: what a process is told on a GPU, and what PyTorch says of it."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "synchronize", fail if is_broken else lambda: None)
    monkeypatch.setattr(Classifier, "load", fail)
    ours, theirs = socket.socketpair()
    plan = Plan(settings.checkpoints, "cuda:0", "auto", threads=1, cores=2, log_level="error")
    with ours, ThreadPoolExecutor(1) as threads, theirs:
        running = threads.submit(process.run, theirs, plan)
        asking = Asking(ours)
        asking.say(load("ckpt_1"))
        asking.hear()
        if is_broken:
            with pytest.raises(RuntimeError, match="device-side"):
                running.result(20)
        else:
            assert asking.hear()[0]["problem"]["code"] == "internal"
            ours.shutdown(socket.SHUT_RDWR)
            running.result(20)


def test_a_network_without_a_map_of_the_image(asking, settings, train, png):
    import shutil

    made = train(settings)
    folder = settings.checkpoints / made.best
    flat = {"layers": [{"type": "Flatten"}, {"type": "Linear"}]}
    manifest = checkpoints.read_manifest(folder).model_copy(update={"architecture": flat})
    shutil.rmtree(folder)
    weights = {"model.1.weight": torch.zeros(10, 784), "model.1.bias": torch.zeros(10)}
    checkpoints.save(folder.parent, weights, manifest)
    asking.say(load(made.best), classify(1, made.best, png(1), png(2), explain="gradcam"))
    [said] = [said for said, _ in _until_answered(asking, 1) if said["did"] == "classify"]
    assert said["problem"]["code"] == "no_feature_map"
    asking.say(classify(2, made.best, png(1), explain="input"))
    [data] = [data for said, data in _until_answered(asking, 1) if said["did"] == "classify"]
    assert json.loads(data)[0]["explanation"]["method"] == "input"


def test_weights_that_are_no_numbers(asking, settings, train, png):
    made = train(settings)
    folder = settings.checkpoints / made.best
    manifest = checkpoints.read_manifest(folder)
    state = checkpoints.read_state(folder, manifest)
    for weights in state.values():
        weights.fill_(np.nan)
    other = manifest.model_copy(update={"id": "ckpt_nan"})
    checkpoints.save(folder.parent, state, other)
    asking.say(load("ckpt_nan"), classify(1, "ckpt_nan", png()))
    [data] = [data for said, data in _until_answered(asking, 1) if said["did"] == "classify"]
    assert json.loads(data)[0]["probability"] is None


def _until_answered(asking, count):
    heard = []
    while sum(said["did"] == "classify" for said, _ in heard) < count or (
        heard[-1][0]["did"] == ("classify") and "problem" not in heard[-1][0]
    ):
        heard.append(asking.hear())
    return heard
