"""What a training job writes about itself: warnings, progress, metrics, epochs.

Turns the events of the training loop into rows. Knows nothing of how they came about.
"""

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from data_store.progress import Rate
from database import history, jobs
from database.jobs import Fence
from models_store.fields import Recipe
from workers.coach import CODES, Advice
from workers.reporter import Reporter, Stopped
from workers.training import EpochEnd, Metrics, Tick

log = logging.getLogger(__name__)

_CHANGED = "dataset_changed"
_WHAT_CHANGED = (
    "The data set is not what it was in an earlier attempt: the epochs before were measured on "
    "other images, and of those that are validated on now some may have been trained on. Figures "
    "to compare are those of a new job."
)


class Journal:
    """The record of one attempt. Progress goes through the reporter's thread, epochs at once."""

    def __init__(
        self,
        sessions: sessionmaker[Session],
        fence: Fence,
        reporter: Reporter,
        recipe: Recipe,
        *,
        metrics: Mapping[str, float | None] | None = None,
    ) -> None:
        """`metrics` are those of an earlier attempt."""
        self._sessions = sessions
        self._fence = fence
        self._reporter = reporter
        self._recipe = recipe
        self._warnings: list[dict[str, str]] = []
        self._metrics = dict(metrics or {})
        self._has_measured = "val_loss" in self._metrics  # an earlier attempt, an epoch
        self._progress: dict[str, Any] = {
            "phase": None, "epoch": 0, "epochs": recipe.epochs, "step": 0, "steps": None,
            "fraction": None, "images_per_second": None, "eta_seconds": None, "bytes": None,
            "bytes_per_second": None,
        }  # fmt: skip
        self._rate = Rate()
        self._steps = self._first = 0
        self._seconds = math.inf
        self._began = 0.0

    def loading(self, phase: str, done: int, total: int) -> None:
        """Downloading (counted in bytes) or decoding (in images)."""
        downloads = phase == "downloading"
        rate = self._rate(done) if downloads else None
        self._tell(
            phase=phase,
            fraction=done / total if total else None,
            bytes=done if downloads else None,
            bytes_per_second=rate,
            eta_seconds=(total - done) / rate if rate else None,
        )

    def warn(self, code: str, message: str) -> None:
        """Adds a warning to those that `describe` writes."""
        self._warnings.append({"code": code, "message": message})

    def describe(self, version: str) -> None:
        """Writes the version of the data and the warnings so far, in place of those of an earlier
        attempt; what the coach has said stays, and that the data became another between epochs.
        """
        with self._sessions.begin() as session:
            row = jobs.get(session, self._fence.job_id)
            if self._has_measured and row.dataset_version not in (None, version):
                self.warn(_CHANGED, _WHAT_CHANGED)
            told = {one["code"] for one in self._warnings}
            stays = {*CODES, _CHANGED} - told
            self._warnings += [dict(one) for one in row.warnings if one["code"] in stays]
            jobs.describe(session, self._fence, dataset_version=version, warnings=self._warnings)

    def notice(self, code: str, message: str) -> None:
        """A warning from the middle of the work, written at once, in place of an earlier one of
        its code.
        """
        self._warnings = [one for one in self._warnings if one["code"] != code]
        self.warn(code, message)
        with self._sessions.begin() as session:
            jobs.describe(session, self._fence, warnings=self._warnings)

    def advise(self, advice: Advice) -> None:
        """What the coach says: an event with the recipe to try next, and a warning that stays."""
        log.warning("%s: %s", advice.code, advice.message)
        self.warn(advice.code, advice.message)
        with self._sessions.begin() as session:
            history.add_coach(session, self._fence, asdict(advice))
            jobs.describe(session, self._fence, warnings=self._warnings)

    def training(
        self, steps: int, *, done: int = 0, epoch: int = 0, seconds: float = math.inf
    ) -> None:
        """The next of `steps` steps is about to begin. Told with its tick, which follows at once:
        a word now would hold that back for half a second. `done` steps and `epoch` epochs lie
        behind it; it ends after so many `seconds` at the latest.
        """
        self._steps, self._first, self._seconds = steps, done, seconds
        self._began = time.perf_counter()
        begun = {
            "phase": "training",
            "epoch": epoch,
            "step": done,
            "steps": steps,
            "fraction": done / steps,
            "eta_seconds": None,
            "bytes": None,
            "bytes_per_second": None,
        }
        self._progress = self._progress | begun  # a new one: the reporter still holds the old

    def tick(self, tick: Tick) -> None:
        """A look in the middle of an epoch."""
        loss = tick.metrics.loss
        self._metrics["train_loss"] = _finite(loss)
        self._metrics["train_accuracy"] = tick.metrics.accuracy
        step = {"step": tick.step, "epoch": tick.epoch, "train_loss": loss, "lr": tick.lr}
        self._advance(tick.step, tick.epoch - 1, tick.images_per_second, step_row=step)

    def epoch(self, end: EpochEnd, validation_count: int) -> None:
        """A finished epoch. Raises `Stopped` when another worker has the job by now."""
        on_test = end.validation if self._recipe.validation == "test" else None
        log.info(
            "epoch %d/%d: train loss %.4f accuracy %.4f, validation loss %.4f accuracy %.4f, "
            "%.0f images/s",
            end.epoch, self._recipe.epochs, end.train.loss, end.train.accuracy,
            end.validation.loss, end.validation.accuracy, end.images_per_second,
        )  # fmt: skip
        measured: dict[str, float | None] = {
            "train_loss": end.train.loss,
            "train_accuracy": end.train.accuracy,
            "val_loss": end.validation.loss,
            "val_accuracy": end.validation.accuracy,
            "test_loss": on_test.loss if on_test else None,
            "test_accuracy": on_test.accuracy if on_test else None,
        }
        pace = {
            "epoch": end.epoch,
            "lr": end.lr,
            "images_per_second": end.images_per_second,
            "seconds": end.seconds,
        }
        with self._sessions.begin() as session:
            if not history.add_epoch(session, self._fence, measured | pace):
                raise Stopped
        self._metrics |= {key: _finite(value) for key, value in measured.items()}
        self._metrics["val_count"] = validation_count
        self._advance(end.step, end.epoch, end.images_per_second)

    def evaluating(self) -> None:
        """The test part is about to be measured."""
        self._tell(phase="evaluating", eta_seconds=None)

    def tested(self, measured: Metrics) -> None:
        """How the best checkpoint does on the test part."""
        log.info("test loss %.4f accuracy %.4f", measured.loss, measured.accuracy)
        self._metrics["test_loss"] = _finite(measured.loss)
        self._metrics["test_accuracy"] = measured.accuracy
        self._tell()

    def metrics(self) -> dict[str, float | None]:
        """The newest of each."""
        return dict(self._metrics)

    def _advance(
        self, step: int, epochs: int, speed: float, *, step_row: dict[str, Any] | None = None
    ) -> None:
        here = step - self._first
        spent = time.perf_counter() - self._began
        left = min(spent / here * (self._steps - step), max(0.0, self._seconds - spent))
        self._tell(
            step_row=step_row,
            epoch=epochs,
            step=step,
            fraction=step / self._steps,
            images_per_second=speed,
            # The first step warms caches up and foretells nothing.
            eta_seconds=left if here > 1 else None,
        )

    def _tell(self, *, step_row: dict[str, Any] | None = None, **progress: Any) -> None:
        self._progress = self._progress | progress
        self._reporter.tell(self._progress, metrics=self.metrics() or None, step=step_row)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
