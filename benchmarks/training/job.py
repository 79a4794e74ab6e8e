"""danlu's own contender: a whole job, as the worker's child runs it, on a database of its own.

What a job does not write down itself is measured from outside: the functions that `run_train` calls
are wrapped, and do what they always do.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch._dynamo  # the worker's children have it imported too: it takes a second

from benchmarks import defaults
from benchmarks.memory import pss_mb
from benchmarks.training import cases
from benchmarks.training.cases import Case
from benchmarks.training.loops import Asked, Measured
from data_store import catalog
from models_store import recipe as recipes
from models_store.recipe import SubmittedRecipe
from workers import run_train, training
from workers import split as splitting
from workers.split import Split
from workers.training import EpochEnd, Tick


@dataclass(slots=True)
class Watch:
    """Looks on while a job trains. `reporting` is seconds: of the training thread, for what is
    done at ticks, and of the reporter's thread, for as long as it computed.
    """

    images: int | None
    began: float = field(default_factory=time.perf_counter)
    trained: int = 0
    ready: float = 0.0
    first_step: float = 0.0
    evaluations: list[float] = field(default_factory=list)
    at_ticks: float = 0.0
    reporter: float = 0.0
    whole: float = 0.0  # the epochs' training parts

    def split(self, *given: Any, **options: Any) -> Split:
        """Leaves a part of the training images."""
        parts = _split(*given, **options)
        index = parts.train.index
        chosen = torch.tensor(cases.part(len(index), self.images), device=index.device)
        self.trained = len(chosen)
        return replace(parts, train=replace(parts.train, index=index[chosen]))

    def fit(self, *given: Any, **options: Any) -> Iterator[Tick | EpochEnd]:
        """Measures what happens between two steps."""
        self.ready = time.perf_counter() - self.began
        computed = _thread_seconds("reporter")
        for event in _fit(*given, **options):
            now = time.perf_counter()
            if isinstance(event, EpochEnd):
                self.whole += event.seconds
                self.reporter += _thread_seconds("reporter") - computed
            yield event
            if isinstance(event, Tick):
                self.first_step = self.first_step or now - self.began
                self.at_ticks += time.perf_counter() - now
            else:
                computed = _thread_seconds("reporter")

    def evaluate(self, *given: Any, **options: Any) -> Any:
        """Measures each evaluation."""
        began = time.perf_counter()
        found = _evaluate(*given, **options)
        self.evaluations.append(time.perf_counter() - began)
        return found


_split: Callable[..., Split] = splitting.split
_fit: Callable[..., Iterator[Tick | EpochEnd]] = training.fit
_evaluate: Callable[..., Any] = training.evaluate


def danlu(case: Case, asked: Asked, *, precision: str, work: Path) -> Measured:
    """Raises `RuntimeError` if the job fails; why is printed."""
    if asked.device == "cpu":
        os.nice(10)  # as workers.child does
    body = case.recipe(precision=precision, epochs=asked.epochs, seed=asked.seed)
    facts = catalog.facts(case.dataset, asked.data)
    recipe = recipes.resolve(SubmittedRecipe.model_validate(body), facts)
    bare = pss_mb(os.getpid())
    watch = Watch(asked.images)
    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(run_train, "split", watch.split))
        patches.enter_context(mock.patch.object(training, "fit", watch.fit))
        patches.enter_context(mock.patch.object(training, "evaluate", watch.evaluate))
        done = defaults.job(recipe, work, asked.data, defaults.Only(asked.device))
    if done is None:
        raise RuntimeError("the job failed")
    _, epochs = done
    return Measured(
        images=watch.trained,
        seconds=[epoch.seconds or 0.0 for epoch in epochs],
        evaluations=watch.evaluations[: len(epochs)],  # the rest is the report's
        accuracies=[epoch.test_accuracy or 0.0 for epoch in epochs],
        said={
            "ready": watch.ready,
            "first_step": watch.first_step,
            "at_ticks": watch.at_ticks / watch.whole,
            "reporter": watch.reporter / watch.whole,
            "bare_mb": bare,
        },
    )


def _thread_seconds(name: str) -> float:
    """What a thread of this process has computed; 0 where the system does not tell."""
    for thread in threading.enumerate():
        if thread.name == name and thread.ident and hasattr(time, "pthread_getcpuclockid"):
            return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return 0.0
