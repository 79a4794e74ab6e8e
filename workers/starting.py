"""The checkpoint that a training starts from: found, and put into the network.

Whether it fits was checked when the job was accepted; knows no rows.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from models_store import checkpoints, starts
from models_store.architectures import Plan
from models_store.fields import Recipe
from models_store.manifest import Manifest
from problems import Problem
from workers import state
from workers.task import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """A checkpoint, its folder, and the parameters that it gives nothing to."""

    manifest: Manifest
    folder: Path
    anew: Sequence[str]

    def fill(self, network: nn.Module) -> None:
        """Puts its weights into the network, in place. Raises `Problem` checkpoint_damaged."""
        weights = checkpoints.read_state(self.folder, self.manifest)
        starts.fill(network, weights, but=self.anew)
        log.info("starts from %s", self.manifest.id)


def obtain(
    recipe: Recipe,
    task: Task,
    planned: Plan,
    classes: Sequence[str],
    *,
    warn: Callable[[str, str], None],
) -> Start | None:
    """The recipe's `init_from`; None without one, and for a job that goes on from an earlier
    attempt whose checkpoint is gone by now, since it needs it no more.

    Raises `Problem` checkpoint_not_found, checkpoint_damaged, and weights_misfit when the data set
    has changed since the job was accepted.
    """
    if recipe.init_from is None:
        return None
    folder = task.checkpoints / recipe.init_from
    try:
        manifest = checkpoints.read_manifest(folder)
    except Problem:
        if state.disk_bytes(task.run):
            return None
        raise
    starts.check(planned, manifest)
    anew = starts.anew(planned, manifest, classes)
    if anew:
        what = "The last layer has another shape than that"
        if list(classes) != manifest.classes:
            what = "The classes are others than those"
        warn(
            "new_head",
            f"{what} of {manifest.id}, so the last layer begins anew: {', '.join(anew)}.",
        )
    return Start(manifest, folder, anew)
