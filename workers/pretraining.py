"""The published weights that a training starts from: where their file is, and into the network.

Files are `data_store.weights`', what is in them `models_store.pretrained`'s. Knows no rows.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from data_store import weights
from data_store.progress import Progress
from models_store import pretrained
from models_store.fields import Recipe
from problems import Problem
from workers import state
from workers.task import Task

# `auto` is a wish: a network that trains from scratch beats one that waits for a slow line.
AUTO_SECONDS = 60.0


class Holding(Protocol):
    """The device that a job holds."""

    @property
    def progress(self) -> Progress: ...
    def given_up(self) -> AbstractContextManager[None]:
        """Others may have it meanwhile."""


def obtain(
    recipe: Recipe,
    task: Task,
    holding: Holding,
    *,
    warn: Callable[[str, str], None],
    warned: Sequence[Mapping[str, Any]],
) -> Path | None:
    """The file to start from: found, or fetched without the device. None: from scratch, or from
    where an earlier attempt was, whose warning stands.

    Raises `Problem` weights_unavailable unless `auto` takes that with a warning.
    """
    if not recipe.pretrained:
        return None
    if found := _find(recipe, task.weights):
        return found
    if state.disk_bytes(task.run):
        for one in warned:
            if one["code"] == "weights_unavailable":
                warn(one["code"], one["message"])
        return None
    with holding.given_up():
        try:
            return _fetch(recipe, task, holding.progress)
        except Problem as problem:
            if recipe.pretrained is True or problem.code != "weights_unavailable":
                raise
            warn(problem.code, f"Trained from scratch. {problem.detail} {problem.hint}")
    return None


def load(network: nn.Module, recipe: Recipe, path: Path) -> None:
    """Puts them into all of the network but its head. Raises `Problem` weights_unavailable."""
    pretrained.fill(network, str(recipe.architecture), pretrained.read(path))


def _find(recipe: Recipe, folder: Path) -> Path | None:
    """In our folder, or where `torch.hub` keeps what other programs have downloaded."""
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    return weights.find(_wanted(recipe), [folder, hub])


def _fetch(recipe: Recipe, task: Task, progress: Progress) -> Path:
    seconds = AUTO_SECONDS if recipe.pretrained == "auto" else math.inf
    return weights.fetch(
        _wanted(recipe), task.weights, progress, mirrors=task.mirrors, seconds=seconds
    )


def _wanted(recipe: Recipe) -> weights.Wanted:
    found = pretrained.published(str(recipe.architecture))
    if found is None:
        detail = f"{recipe.architecture} has no published weights."
        raise Problem("weights_unavailable", detail, hint="Train with pretrained: false.")
    return weights.Wanted(name=found.file, url=found.url, sha256=found.sha256, bytes=found.bytes)
