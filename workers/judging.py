"""The last act of a training: what its best checkpoint, as it was saved, is worth.

Runs the network over the judged images and hands its outputs to `models_store.evaluation`. Knows
no rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import torch
from torch import nn

from data_store import arrays
from data_store.parts import DataSet
from models_store import checkpoints, evaluation, report
from models_store.evaluation import Outputs, Tally
from models_store.fields import Recipe
from models_store.report import Evaluation, Mistake
from workers import training
from workers.reporter import Stopped
from workers.split import Split
from workers.training import Metrics, Run, Samples


@dataclass(frozen=True, slots=True)
class Judge:
    """What is judged on: the parts of a data set whose folder lies in `datasets`."""

    data: DataSet
    parts: Split
    recipe: Recipe
    run: Run
    datasets: Path

    def judge(self, network: nn.Module, best: Path) -> Metrics | None:
        """Loads the checkpoint in the folder `best` into `network` and leaves its report there.

        Returns what was measured on the test part, None without one. The temperature is fitted on
        the validation images in either case. Raises `Stopped`, `OSError`, and `Problem`
        checkpoint_damaged.
        """
        manifest = checkpoints.read_manifest(best)
        network.load_state_dict(checkpoints.read_state(best, manifest))
        classes = len(self.data.classes)
        outputs = Outputs(len(self.parts.validation), classes)
        self._pass(network, self.parts.validation, outputs)
        temperature, fitted_count = outputs.temperature()
        del outputs
        tally = Tally(classes, temperature)
        measured = self._pass(network, self._judged, tally)
        report.write(best, self._report(manifest.id, tally, fitted_count))
        return None if self.parts.test is None else measured

    @property
    def _judged(self) -> Samples:
        return self.parts.validation if self.parts.test is None else self.parts.test

    def _pass(self, network: nn.Module, samples: Samples, into: Outputs | Tally) -> Metrics:
        def heed(logits: torch.Tensor, labels: torch.Tensor) -> None:
            into.add(logits.float().cpu().numpy(), labels.cpu().numpy())

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
        names, part, places = self.data.classes, self._part, self._places()
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

    def _places(self) -> Sequence[int]:
        return arrays.places(self.data, self.datasets, self._part)
