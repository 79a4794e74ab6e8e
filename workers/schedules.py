"""PyTorch's learning rate schedulers from the words of a recipe, with a warm-up in front of them.

Arguments were checked by `models_store.arguments`; knows nothing of losses or data.
"""

import contextlib
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

# What moves of a scheduler; all else is built from the recipe again.
_MOVING = ("last_epoch", "_step_count", "_last_lr", "best", "num_bad_epochs", "cooldown_counter")
# Danlu's own arguments beside PyTorch's. A recipe of before them stepped after each batch.
_OURS: Mapping[str, Any] = {"interval": "step", "warmup_epochs": 0.0, "metric": None}


class Schedule:
    """A scheduler, what it moves after, and the warm-up in which it waits.

    `updates` counts the optimizer's steps, of which an epoch has `per_epoch`. Over `warmup` steps
    the rate rises in a line to what it is at the scheduler's beginning, which it reaches at the
    step after.
    """

    def __init__(
        self,
        chosen: Mapping[str, Any],
        optimizer: torch.optim.Optimizer,
        *,
        epochs: int,
        updates: int,
    ) -> None:
        """`updates` is the optimizer's steps in each of the run's `epochs`."""
        self.updates = 0
        self._optimizer = optimizer
        self._per_epoch = updates
        arguments: dict[str, Any] = {**_OURS, **chosen}
        name, self._metric = arguments.pop("name"), arguments.pop("metric")
        self._by_step = arguments.pop("interval") == "step"
        self._warmup: int = round(arguments.pop("warmup_epochs") * updates)
        length = self._moves(epochs)
        self.fills_the_run = name == "OneCycleLR" or (
            name == "CosineAnnealingLR" and arguments["T_max"] is None
        )
        self._scheduler = _build(name, arguments, optimizer, length=max(1, length))
        self._fresh = True
        self._first = [float(group["lr"]) for group in optimizer.param_groups]
        self._warm()

    def after_update(self) -> None:
        """The optimizer has made a step."""
        self.updates += 1
        if self.updates <= self._warmup:
            self._warm()
        elif self._by_step:
            self._move()

    def after_epoch(self, measured: Mapping[str, float]) -> None:
        """An epoch is over; `measured` has `val_loss` and `val_accuracy`. One that ends within the
        warm-up, or with it, does not count.
        """
        if self._by_step or self.updates <= self._warmup:
            return
        self._move(None if self._metric is None else measured[self._metric])

    def advance(self, epochs: int) -> None:
        """Brings it to where so many epochs lead, of which nobody knows what they measured."""
        for group, lr in zip(self._optimizer.param_groups, self._first, strict=True):
            group["lr"] = lr
        self.updates = epochs * self._per_epoch
        if self._metric is None:
            for _ in range(self._moves(epochs)):  # 3 us each
                self._move()
        self._warm()

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, as JSON may have it."""
        state = self._scheduler.state_dict()
        return {"updates": self.updates, **{key: state[key] for key in _MOVING if key in state}}

    def load_state_dict(self, state: Mapping[str, Any], *, updates: int) -> None:
        """Takes what `state_dict` gave; `updates` where it has none, as before there were any."""
        self.updates = state.get("updates", updates)
        self._scheduler.load_state_dict({key: state[key] for key in _MOVING if key in state})

    def _moves(self, epochs: int) -> int:
        """How often the scheduler has moved after so many epochs."""
        if self._by_step:
            return epochs * self._per_epoch - self._warmup
        return epochs - self._warmup // self._per_epoch

    def _warm(self) -> None:
        if not self._warmup or self.updates > self._warmup:
            return
        share = (self.updates + 1) / (self._warmup + 1)
        for group, lr in zip(self._optimizer.param_groups, self._first, strict=True):
            group["lr"] = lr * share

    def _move(self, measured: float | None = None) -> None:
        with warnings.catch_warnings() if self._fresh else contextlib.nullcontext():
            # PyTorch misses the optimizer's step before it, which an earlier process has made, or
            # which fp16 has left out.
            if self._fresh:
                warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
                self._fresh = False
            if measured is None:
                self._scheduler.step()
            else:
                self._scheduler.step(measured)  # type: ignore[arg-type]  # ReduceLROnPlateau's


def _build(
    name: str, arguments: dict[str, Any], optimizer: torch.optim.Optimizer, *, length: int
) -> LRScheduler:
    """A scheduler that will be stepped at most `length` times."""
    if name == "OneCycleLR":
        arguments["total_steps"] = length
        arguments["pct_start"] = _divisible(arguments["pct_start"], length, arguments)
        arguments["max_lr"] = _peaks(arguments["max_lr"], optimizer)
    if name == "CosineAnnealingLR" and arguments["T_max"] is None:
        arguments["T_max"] = length
    scheduler: LRScheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **arguments)
    return scheduler


def _divisible(pct_start: float, steps: int, arguments: Mapping[str, Any]) -> float:
    """A phase of no length, after a rise of exactly one step or three phases of which the second
    ends with the run, divides by zero in PyTorch.
    """
    ends = [pct_start * steps - 1]
    if arguments["three_phase"]:
        ends.append(2 * pct_start * steps - 2)
    lengths = [end - begin for begin, end in zip([0, *ends], [*ends, steps - 1], strict=True)]
    return pct_start if all(lengths) else pct_start + 1e-6


def _peaks(peak: float, optimizer: torch.optim.Optimizer) -> list[float]:
    """For each group: one that is trained more slowly than others peaks lower, too."""
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    usual = float(optimizer.defaults.get("lr", rates[0]))
    return [peak * (rate / usual if usual else 1.0) for rate in rates]
