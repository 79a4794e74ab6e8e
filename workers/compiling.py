"""How a network is called in a step: as it is, or compiled by torch.compile.

Knows nothing of steps. The compiler is imported by whom it is asked for.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models_store.fields import Recipe
from workers import convolutions, kernels
from workers.room import is_exhausted
from workers.steps import Run

log = logging.getLogger(__name__)

_VARIABLES = os.environ  # noqa: TID251 - PyTorch reads it there, it is no setting

Warn = Callable[[str, str], object]


def keep_in(folder: Path) -> None:
    """For the whole process: what is compiled is kept there, for the next job too. Before anything
    is compiled, and by one thread: others would be processes that outlive this one.
    """
    from torch._inductor import config  # as much again as all of torch, where nothing is compiled

    _VARIABLES["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    config.compile_threads = 1


def ready(network: nn.Module, recipe: Recipe, run: Run) -> "Compiled | None":
    """How a network is to be called in a step: compiled where the recipe asks for it; None: as it
    is. Its layers are changed in place for the device.
    """
    if recipe.compile:
        if run.device.type == "cpu":
            convolutions.mend(network)
        return Compiled(network, warn=run.warn)
    if run.device.type == "cpu":
        kernels.quicken(network)
    return None


class Compiled:
    """Calls a network, compiled for batches as large as the first; others, as the last of an epoch
    or the parts of one that does not fit, and all others once compiling has failed, are computed
    without: to compile anew takes longer than they are worth.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        warn: Warn,
        backend: str | Callable[..., Any] = "inductor",
    ) -> None:
        """`warn` hears once that it cannot be done. `backend` is PyTorch's."""
        from torch._functorch import config  # as torch.compile does

        # With the way forward: else it is compiled by the first gradients, where what fails ends
        # the step.
        config.force_non_lazy_backward_lowering = True
        self._network, self._warn = network, warn
        self._images: int | None = None
        self._compiled: Callable[[torch.Tensor], torch.Tensor] | None
        self._compiled = torch.compile(network, backend=backend, dynamic=False)

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes) of images (n, C, H, W)."""
        self._images = self._images or len(inputs)
        if self._compiled is not None and len(inputs) == self._images:
            try:
                return self._compiled(inputs)
            except Exception as error:
                if is_exhausted(error):
                    raise
                self._give_up(error)
        logits: torch.Tensor = self._network(inputs)
        return logits

    def _give_up(self, error: Exception) -> None:
        self._compiled = None
        log.warning("the network could not be compiled", exc_info=error)
        lines = [line for line in str(error).splitlines() if line and not line.endswith("raised:")]
        reason = lines[0][:200] if lines else type(error).__name__
        self._warn(
            "compile_unavailable",
            f"The network could not be compiled, and is trained without: {reason}",
        )
