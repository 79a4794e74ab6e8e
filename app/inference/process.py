"""An inference process: loads classifiers as it is told to, and answers what was asked of them.

Has one thread that computes. What waits when it looks goes through the network together; nothing is
waited for. Ends when the server does. Knows neither HTTP nor rows.
"""

import contextlib
import ctypes
import gc
import logging
import socket
import time
from bisect import bisect_right
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, chain
from typing import Any

import torch

from app.inference.entry import MOST, OBJECT_BYTES, Plan
from app.inference.messages import Reader, pack
from app.inference.questions import Model, Question, answered, as_said, question
from models_store.classifier import Classified, Classifier
from problems import Problem

log = logging.getLogger(__name__)

# A network whose batch takes longer than this is given smaller ones: more at a time gain little
# there, and who comes meanwhile waits for the whole of it.
_BATCH_SECONDS = 0.25
# Images that such a network computes as fast as any number of them; where it took all that waits,
# it would have nothing to do until those who were answered come again.
_ENOUGH = 8
# There twice as many are no faster, and take twice the memory.
_MOST_ON_CPU = 32
_DECODERS = 8  # a hostile file may take a gigabyte
# Of decoding, after which the server hears that this goes on, and a batch is answered as far as it
# goes: of 32 images that take a second each all would be too late, the first one too.
_SILENCE_SECONDS = 1.0
_LOOKS = 3  # at how long an image takes
_PIECE = 1 << 18


class _Dropped(Exception):
    """Nobody waits for the answer any more."""


def run(channel: socket.socket, plan: Plan) -> None:
    """Answers until the server hangs up."""
    torch.set_num_threads(plan.threads)
    if plan.device.startswith("cuda"):
        torch.cuda.set_per_process_memory_fraction(plan.gpu_share, plan.device)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        _Loop(channel, plan).run()


class _Loop:
    def __init__(self, channel: socket.socket, plan: Plan) -> None:
        self._channel = channel
        self._plan = plan
        self._reader = Reader()
        self._models: dict[str, Model] = {}
        self._waiting: deque[Question] = deque()
        self._asked: set[int] = set()  # requests that are being answered
        self._spoke = time.monotonic()
        # One process feeds a GPU, where on the CPU several decode beside each other.
        threads = min(plan.cores, _DECODERS)
        self._decoders = ThreadPoolExecutor(threads) if plan.device.startswith("cuda") else None

    def run(self) -> None:
        """Until the server hangs up."""
        channel = self._channel
        self._send({"did": "start", "gpus": torch.cuda.device_count()})
        while piece := channel.recv(_PIECE):
            self._take(piece)
            while self._waiting:
                self._answer_some()
                self._listen()

    def _listen(self) -> None:
        """Takes what has come meanwhile. Raises `ConnectionResetError` when the server is gone."""
        with contextlib.suppress(BlockingIOError):
            while piece := self._channel.recv(_PIECE, socket.MSG_DONTWAIT):
                self._take(piece)
            raise ConnectionResetError

    def _take(self, piece: bytes) -> None:
        for said, data in self._reader.feed(piece):
            match said["do"]:
                case "classify":
                    model = self._models.get(said["checkpoint"])
                    self._waiting.append(question(said, data, model))
                case "drop":
                    waiting = (one for one in self._waiting if one.number != said["number"])
                    self._waiting = deque(waiting)
                    self._asked.discard(said["number"])
                    self._send({"did": "drop", "number": said["number"]})
                case "load":
                    self._load(said["checkpoint"])
                case "unload":
                    self._models.pop(said["checkpoint"], None)
                    _give_back()

    def _send(self, said: dict[str, Any]) -> None:
        self._channel.sendall(b"".join(pack(said)))

    # -- loading -----------------------------------------------------------------------------

    def _load(self, checkpoint_id: str) -> None:
        began = time.perf_counter()
        told: dict[str, Any] = {"did": "load", "checkpoint": checkpoint_id}
        try:
            model = self._loaded(checkpoint_id)
        except Problem as problem:
            told["problem"] = as_said(problem)
        except Exception as error:
            self._end_if_broken(error)
            log.exception("%s cannot be loaded", checkpoint_id)
            told["problem"] = as_said(_failed(error, "loading the model"))
        else:
            self._models[checkpoint_id] = model
            told |= {
                "bytes": model.classifier.weight_bytes + OBJECT_BYTES,
                "precision": model.classifier.precision,
                "seconds": time.perf_counter() - began,
            }
        self._send(told)

    def _loaded(self, checkpoint_id: str) -> Model:
        plan = self._plan
        classifier = Classifier.load(
            plan.root / checkpoint_id, device=plan.device, precision=plan.precision
        )
        most = MOST if plan.device.startswith("cuda") else _MOST_ON_CPU
        largest = classifier.warm_up(most=most, seconds=_BATCH_SECONDS)
        if largest < most:
            largest = min(largest, _ENOUGH)
        threads = self._fastest(classifier)
        gc.collect()
        gc.freeze()  # it stays: a collection that looks at it takes longer than a batch
        return Model(classifier, largest, threads)

    def _fastest(self, classifier: Classifier) -> int:
        """With how many threads a single image takes the least time: those of a small network
        would wait for each other longer than they compute.
        """
        seconds = {}
        for threads in {self._plan.threads, self._plan.cores}:
            torch.set_num_threads(threads)
            classifier.warm_up(most=1, seconds=_BATCH_SECONDS)
            seconds[threads] = min(_timed(classifier) for _ in range(_LOOKS))
        torch.set_num_threads(self._plan.threads)
        return min(seconds, key=lambda threads: seconds[threads])

    # -- answering ---------------------------------------------------------------------------

    def _answer_some(self) -> None:
        """The first that waits, and what else waits for the same model."""
        first = self._waiting[0]
        model = first.model
        if model is None:
            self._waiting.popleft()
            self._refuse(first, Problem("checkpoint_not_found", "The model is not loaded."))
            return
        batch = self._batch(first, model.largest)
        self._asked, self._spoke = {one.number for one in batch}, time.monotonic()
        try:
            self._answer(model, batch)
        except _Dropped:
            return
        except ConnectionError:
            raise
        except Exception as error:
            self._end_if_broken(error)
            if len(batch) > 1:  # whose fault it is shows when each is alone
                for one in batch:
                    one.alone = True
                self._waiting.extendleft(reversed(batch))
                return
            log.exception("a prediction failed")
            self._refuse(first, _failed(error, "computing the prediction"))

    def _batch(self, first: Question, largest: int) -> list[Question]:
        """Takes requests for one model out of those that wait, no more images than `largest`, and
        no more than fill a power of two by three quarters: the rest is filled with nothing.
        """
        if first.alone:
            return [self._waiting.popleft()]
        same = [one for one in self._waiting if one.model is first.model and not one.alone]
        images = sum(len(one.images) for one in same)
        most = min(images, largest)
        full = 1 << (most - 1).bit_length()
        if 4 * most < 3 * full:
            most = full // 2
        chosen, count = [first], len(first.images)
        for one in same[1:]:
            if count + len(one.images) > most:
                break
            chosen.append(one)
            count += len(one.images)
        taken = {id(one) for one in chosen}
        self._waiting = deque(one for one in self._waiting if id(one) not in taken)
        return chosen

    def _answer(self, model: Model, batch: list[Question]) -> None:
        began, classifier = time.perf_counter(), model.classifier
        is_single = len(batch) == 1 and batch[0].idle
        torch.set_num_threads(model.threads if is_single else self._plan.threads)
        classified, done = self._classified(model, batch)
        pieces: list[bytes] = []
        results = iter(classified)
        for asked in batch[:done]:
            found = [one if isinstance(one, Problem) else next(results) for one in asked.images]
            said, data = answered(classifier, asked, found)
            pieces += pack({"did": "classify", "number": asked.number, **said}, [data])
        seconds = time.perf_counter() - began
        told = {
            "did": "batch",
            "checkpoint": batch[0].checkpoint_id,
            "requests": done,
            "images": len(classified),
            "seconds": seconds,
        }
        self._channel.sendall(b"".join([*pieces, *pack(told)]))
        left = [one for one in batch[done:] if one.number in self._asked]
        self._waiting.extendleft(reversed(left))

    def _classified(
        self, model: Model, batch: list[Question]
    ) -> tuple[list[Classified | Problem], int]:
        """What is seen in the images of a batch, as far as it was decoded in time, and how many of
        its requests that makes whole. Raises `_Dropped`.
        """
        late = time.monotonic() + _SILENCE_SECONDS
        files = [[one for one in asked.images if isinstance(one, bytes)] for asked in batch]
        ends = list(accumulate(map(len, files)))
        images = list(chain.from_iterable(files))

        def is_enough(decoded: int) -> bool:
            self._look_up()
            return time.monotonic() > late and decoded in ends

        found: list[Classified | Problem] = []
        # In more parts than one only where it is a single request.
        for start in range(0, len(images), model.largest):
            part = images[start : start + model.largest]
            found += model.classifier.classify(part, decoders=self._decoders, is_enough=is_enough)
        return found, bisect_right(ends, len(found))

    def _look_up(self) -> None:
        """After each image that was decoded: who waits for long is heard, so that the server knows
        that this goes on, and what nobody waits for any more is left. Raises `_Dropped`.
        """
        if time.monotonic() - self._spoke > _SILENCE_SECONDS:
            self._spoke = time.monotonic()
            self._send({"did": "working"})
            self._listen()
            if not self._asked:
                raise _Dropped

    def _end_if_broken(self, error: Exception) -> None:
        """A GPU that has failed computes nothing any more in this process; in the next it may.
        Raises what the GPU says then.
        """
        is_full = isinstance(error, torch.OutOfMemoryError)
        if self._plan.device.startswith("cuda") and not is_full:
            torch.cuda.synchronize()

    def _refuse(self, asked: Question, problem: Problem) -> None:
        self._send({"did": "classify", "number": asked.number, "problem": as_said(problem)})


def _give_back() -> None:
    """Free memory goes back to the system: glibc keeps what lies between what is in use, 30 to 50
    MB after a loop of a hundred loads. A few milliseconds.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _timed(classifier: Classifier) -> float:
    began = time.perf_counter()
    classifier.warm_up(most=1, seconds=_BATCH_SECONDS)
    return time.perf_counter() - began


def _failed(error: Exception, doing: str) -> Problem:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return Problem("overloaded", f"There is no memory left for {doing}.")
    return Problem("internal", f"{type(error).__name__} in {doing}.")
