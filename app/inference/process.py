"""An inference process: loads classifiers as it is told to, and answers what was asked of them.

Has one thread that computes. What waits when it looks goes through the network together; nothing is
waited for. Ends when the server does. Knows neither HTTP nor rows.
"""

import contextlib
import gc
import logging
import socket
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from app.inference.answers import Wanted, answers
from app.inference.entry import MOST, OBJECT_BYTES, Plan
from app.inference.messages import Reader, pack
from models_store.classifier import Classified, Classifier
from problems import Problem

log = logging.getLogger(__name__)

# A network whose batch takes longer than this is given smaller ones: more at a time gain little
# there, and who comes meanwhile waits for the whole of it.
_BATCH_SECONDS = 0.25
# Images that such a network computes as fast as any number of them; where it took all that waits,
# it would have nothing to do until those who were answered come again.
_ENOUGH = 8
_LOOKS = 3  # at how long an image takes
_PIECE = 1 << 18


@dataclass(slots=True)
class _Model:
    classifier: Classifier
    largest: int  # batch
    threads: int  # for an image that comes when nothing else is computed


@dataclass(slots=True)
class _Asked:
    """A request: images of a model, and what is wanted of them."""

    number: int
    checkpoint_id: str
    filenames: list[str | None]
    images: list[bytes | Problem]  # a problem: the server did not take it
    model: _Model | None  # as it was loaded when it was asked
    wanted: Wanted
    alone: bool  # it may be what ended a process
    idle: bool  # nothing else was computed when it came, in no process


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
        self._models: dict[str, _Model] = {}
        self._waiting: deque[_Asked] = deque()
        # One process feeds a GPU, where on the CPU several decode beside each other.
        self._decoders = ThreadPoolExecutor(plan.cores) if plan.device.startswith("cuda") else None

    def run(self) -> None:
        """Until the server hangs up."""
        channel = self._channel
        self._send({"did": "start", "gpus": torch.cuda.device_count()})
        while piece := channel.recv(_PIECE):
            self._take(piece)
            while self._waiting:
                self._answer_some()
                with contextlib.suppress(BlockingIOError):
                    while piece := channel.recv(_PIECE, socket.MSG_DONTWAIT):
                        self._take(piece)
                    return

    def _take(self, piece: bytes) -> None:
        for said, data in self._reader.feed(piece):
            match said["do"]:
                case "classify":
                    model = self._models.get(said["checkpoint"])
                    self._waiting.append(_asked(said, data, model))
                case "drop":
                    waiting = (one for one in self._waiting if one.number != said["number"])
                    self._waiting = deque(waiting)
                    self._send({"did": "drop", "number": said["number"]})
                case "load":
                    self._load(said["checkpoint"])
                case "unload":
                    self._models.pop(said["checkpoint"], None)

    def _send(self, said: dict[str, Any], data: Sequence[bytes] = ()) -> None:
        self._channel.sendall(b"".join(pack(said, data)))

    # -- loading -----------------------------------------------------------------------------

    def _load(self, checkpoint_id: str) -> None:
        began = time.perf_counter()
        told: dict[str, Any] = {"did": "load", "checkpoint": checkpoint_id}
        try:
            model = self._loaded(checkpoint_id)
        except Problem as problem:
            told["problem"] = _said(problem)
        except Exception as error:
            log.exception("%s cannot be loaded", checkpoint_id)
            told["problem"] = _said(_failed(error, "loading the model"))
        else:
            self._models[checkpoint_id] = model
            told |= {
                "bytes": model.classifier.weight_bytes + OBJECT_BYTES,
                "precision": model.classifier.precision,
                "seconds": time.perf_counter() - began,
            }
        self._send(told)

    def _loaded(self, checkpoint_id: str) -> _Model:
        plan = self._plan
        classifier = Classifier.load(
            plan.root / checkpoint_id, device=plan.device, precision=plan.precision
        )
        largest = classifier.warm_up(most=MOST, seconds=_BATCH_SECONDS)
        if largest < MOST:
            largest = min(largest, _ENOUGH)
        threads = self._fastest(classifier)
        gc.collect()
        gc.freeze()  # it stays: a collection that looks at it takes longer than a batch
        return _Model(classifier, largest, threads)

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
        try:
            self._answer(model, batch)
        except Exception as error:
            if len(batch) > 1:  # whose fault it is shows when each is alone
                for one in batch:
                    one.alone = True
                self._waiting.extendleft(reversed(batch))
                return
            log.exception("a prediction failed")
            self._refuse(first, _failed(error, "computing the prediction"))

    def _batch(self, first: _Asked, largest: int) -> list[_Asked]:
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

    def _answer(self, model: _Model, batch: list[_Asked]) -> None:
        began, classifier = time.perf_counter(), model.classifier
        is_single = len(batch) == 1 and batch[0].idle
        torch.set_num_threads(model.threads if is_single else self._plan.threads)
        images = [one for asked in batch for one in asked.images if isinstance(one, bytes)]
        classified: list[Classified | Problem] = []
        for start in range(0, len(images), model.largest):
            part = images[start : start + model.largest]
            classified += classifier.classify(part, decoders=self._decoders)
        pieces: list[bytes] = []
        results = iter(classified)
        for asked in batch:
            found = [one if isinstance(one, Problem) else next(results) for one in asked.images]
            said, data = _answered(classifier, asked, found)
            pieces += pack({"did": "classify", "number": asked.number, **said}, [data])
        seconds = time.perf_counter() - began
        told = {
            "did": "batch",
            "checkpoint": batch[0].checkpoint_id,
            "requests": len(batch),
            "images": len(images),
            "seconds": seconds,
        }
        self._channel.sendall(b"".join([*pieces, *pack(told)]))

    def _refuse(self, asked: _Asked, problem: Problem) -> None:
        self._send({"did": "classify", "number": asked.number, "problem": _said(problem)})


def _asked(said: dict[str, Any], data: bytes, model: _Model | None) -> _Asked:
    images: list[bytes | Problem] = []
    start = 0
    for size in said["sizes"]:
        if isinstance(size, dict):
            images.append(Problem(size["code"], size["message"], hint=size["hint"]))
        else:
            images.append(data[start : start + size])
            start += size
    return _Asked(
        number=said["number"],
        checkpoint_id=said["checkpoint"],
        filenames=said["filenames"],
        images=images,
        model=model,
        wanted=Wanted(said["top_k"], said["threshold"], said["explain"]),
        alone=said["alone"],
        idle=said["idle"],
    )


def _answered(
    classifier: Classifier, asked: _Asked, found: list[Classified | Problem]
) -> tuple[dict[str, Any], bytes]:
    """What is said of a request, and its answers. Of a single image an error is that of all."""
    if len(found) == 1 and isinstance(found[0], Problem):
        return {"problem": _said(found[0])}, b""
    try:
        pictures = _pictures(classifier, asked, found)
    except Problem as problem:
        return {"problem": _said(problem)}, b""
    classes = classifier.manifest.classes
    return {}, answers(asked.wanted, classes, asked.filenames, found, pictures)


def _pictures(
    classifier: Classifier, asked: _Asked, found: list[Classified | Problem]
) -> list[bytes | None]:
    """Why each image got its label; None for one without a label. Raises `Problem`
    no_feature_map.
    """
    labelled = [
        (image, int(one.probabilities.argmax()))
        for image, one in zip(asked.images, found, strict=True)
        if isinstance(one, Classified) and isinstance(image, bytes)
    ]
    method = asked.wanted.method
    if method is None or not labelled:
        return [None] * len(found)
    files, classes = zip(*labelled, strict=True)
    made = iter(classifier.explain(files, classes, method))
    return [next(made) if isinstance(one, Classified) else None for one in found]


def _timed(classifier: Classifier) -> float:
    began = time.perf_counter()
    classifier.warm_up(most=1, seconds=_BATCH_SECONDS)
    return time.perf_counter() - began


def _failed(error: Exception, doing: str) -> Problem:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return Problem("overloaded", f"There is no memory left for {doing}.")
    return Problem("internal", f"{type(error).__name__} in {doing}.")


def _said(problem: Problem) -> dict[str, Any]:
    return {
        "code": problem.code,
        "detail": problem.detail,
        "hint": problem.hint,
        "errors": problem.errors,
    }
