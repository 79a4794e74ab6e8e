"""The last act of a training: what its best checkpoint, as it was saved, is worth.

Runs the network over the judged images and hands its outputs to `models_store.evaluation`. Knows
no rows.
"""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from data_store.parts import DataSet
from models_store import checkpoints, evaluation, report
from models_store.evaluation import Outputs, Tally
from models_store.fields import Recipe
from models_store.report import Evaluation, Mistake, Parity
from problems import Problem
from workers import parity, training
from workers.parity import Proofs
from workers.reporter import Stopped
from workers.split import Split
from workers.training import Metrics, Run, Samples


@dataclass(frozen=True, slots=True)
class Judged:
    """What was measured on the test part, None without one; and the proof, None without images."""

    measured: Metrics | None
    parity: Parity | None


class Labels:
    """The class that a network gives each image, as `Outputs` and `Tally` are told of them."""

    def __init__(self) -> None:
        self.given: list[int] = []

    def add(self, logits: NDArray[np.float32], _labels: NDArray[np.int64]) -> None:
        """Logits (n, classes) of the next images."""
        self.given += logits.argmax(1).tolist()


@dataclass(frozen=True, slots=True)
class Judge:
    """What is judged on: the parts of a data set whose folder lies in `datasets`."""

    data: DataSet
    parts: Split
    recipe: Recipe
    run: Run
    datasets: Path

    def judge(self, network: nn.Module, best: Path) -> Judged:
        """Loads the checkpoint in the folder `best` into `network` and leaves its report there.

        The temperature is fitted on the validation images, and files of them are served for the
        proof of parity, whichever part it is judged on. Raises `Stopped`, `OSError`, and `Problem`
        checkpoint_damaged.
        """
        manifest = checkpoints.read_manifest(best)
        network.load_state_dict(checkpoints.read_state(best, manifest))
        classes = len(self.data.classes)
        outputs, labels = Outputs(len(self.parts.validation), classes), Labels()
        self._pass(network, self.parts.validation, outputs, labels)
        temperature, fitted_count = outputs.temperature()
        del outputs
        tally = Tally(classes, temperature)
        measured = self._pass(network, self._judged, tally)
        said = self._report(manifest.id, tally, fitted_count)
        report.write(best, said)  # also for the classifier of the proof, which reads it
        proofs = self._prove(best, labels)
        found = {"parity": proofs.parity, "parity_bf16": proofs.parity_bf16}
        report.write(best, said.model_copy(update=found))
        return Judged(None if self.parts.test is None else measured, proofs.parity)

    @property
    def _judged(self) -> Samples:
        return self.parts.validation if self.parts.test is None else self.parts.test

    def _prove(self, best: Path, labels: Labels) -> Proofs:
        chosen = parity.choose(len(labels.given))
        rows = self.parts.validation.index[chosen].tolist()
        held_out = self.recipe.validation
        part = held_out if isinstance(held_out, str) else "train"
        try:
            files = parity.files(self.data, self.datasets, part, rows)
        except (Problem, OSError, KeyError):  # somebody has taken them away meanwhile
            return Proofs()
        return parity.prove(best, files, [labels.given[one] for one in chosen], run=self.run)

    def _pass(
        self, network: nn.Module, samples: Samples, *into: Outputs | Tally | Labels
    ) -> Metrics:
        def heed(logits: torch.Tensor, labels: torch.Tensor) -> None:
            for one in into:
                one.add(logits.float().cpu().numpy(), labels.cpu().numpy())

        measured = training.evaluate(network, samples, self.run, heed=heed)
        if measured is None:
            raise Stopped
        return measured

    def _report(self, checkpoint_id: str, tally: Tally, fitted_count: int) -> Evaluation:
        confusion = tally.confusion()
        classes, averages = evaluation.per_class(confusion, list(self.data.classes))
        on_test = self.parts.test is not None or self.recipe.validation == "test"
        return Evaluation(
            checkpoint_id=checkpoint_id,
            dataset={"name": self.data.name, "version": self.data.version},
            judged_on="test" if on_test else "validation",
            count=len(self._judged),
            accuracy=tally.accuracy(),
            top5_accuracy=tally.top5_accuracy(),
            averages=averages,
            classes=classes,
            confusion=confusion.tolist(),
            calibration=tally.calibration(fitted_count=fitted_count),
            mistakes=self._mistakes(tally),
        )

    def _mistakes(self, tally: Tally) -> list[Mistake]:
        surest = tally.mistakes().tolist()
        if not surest:
            return []
        labels, predicted, sure = tally.labels, tally.predicted, tally.confidence
        names, part, places = self.data.classes, self._part, self.data.places(self._part)
        rows = self._judged.index[surest].tolist()
        return [
            Mistake(
                part=part,
                index=places[row],
                label=names[labels[one]],
                predicted=names[predicted[one]],
                probability=float(sure[one]) if isfinite(sure[one]) else None,
            )
            for one, row in zip(surest, rows, strict=True)
        ]

    @property
    def _part(self) -> str:
        """The part of the data set that the judged images lie in."""
        if self.parts.test is not None and "test" in self.data.parts:
            return "test"
        held_out = self.recipe.validation
        if self.parts.test is None and isinstance(held_out, str):
            return held_out
        return "train"
