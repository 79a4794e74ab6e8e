"""Saves the checkpoints of one job: files first, then the row, then what is not kept any more.

Knows nothing of training; is handed a network and what it measured.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from sqlalchemy.orm import Session, sessionmaker
from torch import nn

from database import checkpoints as rows
from database import ids
from database.jobs import Fence
from models_store import checkpoints, misfits
from models_store.fields import Recipe
from models_store.manifest import Manifest, Preprocessing
from problems import Problem
from workers.reporter import Stopped
from workers.training import EpochEnd


@dataclass(frozen=True, slots=True)
class Origin:
    """What the manifests of a job's checkpoints have in common."""

    architecture: str | dict[str, Any]
    classes: tuple[str, ...]
    dataset: dict[str, str | None]
    preprocessing: Preprocessing
    made_with: dict[str, str]


class Saver:
    """The checkpoints of one attempt."""

    def __init__(
        self,
        root: Path,
        sessions: sessionmaker[Session],
        fence: Fence,
        *,
        recipe: Recipe,
        origin: Origin,
    ) -> None:
        self._root = root
        self._sessions = sessions
        self._fence = fence
        self._recipe = recipe
        self._origin = origin

    def save(self, network: nn.Module, end: EpochEnd, metrics: dict[str, float | None]) -> None:
        """Raises `Stopped` when another worker has the job by now; its files are gone then.

        An epoch that an earlier attempt had come past is not saved again: what that left stays.
        """
        before = self.newest()
        if before is not None and end.epoch <= before[0]:
            return
        manifest = self._manifest(end, metrics)
        folder = checkpoints.save(self._root, network.state_dict(), manifest)
        with self._sessions.begin() as session:
            ours = rows.add(
                session,
                self._fence,
                checkpoint_id=manifest.id,
                epoch=end.epoch,
                val_accuracy=end.validation.accuracy,
                val_loss=end.validation.loss,
                disk_bytes=checkpoints.disk_bytes(folder),
            )
        if not ours:
            checkpoints.remove(folder)
            raise Stopped
        self._prune()

    def newest(self) -> tuple[int, Path] | None:
        """The last epoch that was saved and its folder; None if there is none."""
        with self._sessions() as session:
            row = rows.newest_of(session, self._fence.job_id)
        return None if row is None else (row.epoch, self._root / row.id)

    def check_classes(self) -> None:
        """Raises `Problem` dataset_changed where an earlier attempt had other classes."""
        saved = self.newest()
        if saved is None:
            return
        try:
            known = checkpoints.read_manifest(saved[1]).classes
        except Problem:  # whether it is of any use is asked when it is needed
            return
        misfits.check_classes(known, self._origin.classes)

    def best(self) -> Path:
        """Folder of the best checkpoint."""
        with self._sessions() as session:
            row = rows.best_of(session, self._fence.job_id)
        if row is None:
            raise LookupError(f"{self._fence.job_id} has no checkpoint")
        return self._root / row.id

    def prove(self, checkpoint_id: str, *, passed: bool | None) -> None:
        """Notes whether a checkpoint serves as it was trained; None: nobody knows."""
        with self._sessions.begin() as session:
            rows.prove(session, self._fence, checkpoint_id, passed=passed)

    def _prune(self) -> None:
        keep = None if self._recipe.checkpoints.keep == "all" else self._recipe.checkpoints.keep
        with self._sessions.begin() as session:
            leaving = rows.prunable(session, self._fence.job_id, keep=keep)
            for checkpoint_id in leaving:
                rows.remove(session, checkpoint_id)
        for checkpoint_id in leaving:
            checkpoints.remove(self._root / checkpoint_id)

    def _manifest(self, end: EpochEnd, metrics: dict[str, float | None]) -> Manifest:
        origin = self._origin
        versions = {"danlu": version("danlu"), "torch": torch.__version__}
        return Manifest(
            id=ids.new("ckpt"),
            job_id=self._fence.job_id,
            architecture=origin.architecture,
            classes=list(origin.classes),
            preprocessing=origin.preprocessing,
            recipe=self._recipe.model_dump(mode="json"),
            dataset=origin.dataset,
            epoch=end.epoch,
            metrics=metrics,
            made_with=versions | origin.made_with,
            created_at=datetime.now(UTC),
        )
