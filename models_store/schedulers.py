"""The arguments of PyTorch's learning rate schedulers, and danlu's own two beside them.

Torch-free; a test holds every model against the signature of its class.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from models_store.numbers import Share
from models_store.signatures import Arguments, Count, Fraction, NonNegative, Number, Positive

Interval = Literal["step", "epoch"]
Metric = Literal["val_loss", "val_accuracy"]


class Scheduler(Arguments):
    """What danlu adds to each: `interval` says after what it moves, a step of the optimizer or an
    epoch; `warmup_epochs` is a linear rise in front of it, in which it waits.
    """

    interval: Interval = "epoch"
    warmup_epochs: NonNegative = 0.0


class StepLR(Scheduler):
    """torch.optim.lr_scheduler.StepLR."""

    step_size: Number
    gamma: NonNegative = 0.1


class MultiStepLR(Scheduler):
    """torch.optim.lr_scheduler.MultiStepLR; `milestones` rise."""

    milestones: Annotated[list[Number], Field(min_length=1, max_length=1000)]
    gamma: NonNegative = 0.1

    @field_validator("milestones")
    @classmethod
    def _rising(cls, value: list[int]) -> list[int]:
        if value != sorted(value):
            raise ValueError("milestones must rise")
        return value


class ExponentialLR(Scheduler):
    """torch.optim.lr_scheduler.ExponentialLR."""

    gamma: NonNegative


class CosineAnnealingLR(Scheduler):
    """torch.optim.lr_scheduler.CosineAnnealingLR; `T_max` null is the length of the run."""

    T_max: Number | None = None
    eta_min: NonNegative = 0.0


class OneCycleLR(Scheduler):
    """torch.optim.lr_scheduler.OneCycleLR; `max_lr` left out is the optimizer's `lr`."""

    interval: Interval = "step"
    max_lr: NonNegative
    pct_start: Fraction = 0.3  # at 1 PyTorch divides by zero: no step is left to come down
    anneal_strategy: Literal["cos", "linear"] = "cos"
    cycle_momentum: bool = True
    base_momentum: Fraction = 0.85
    max_momentum: Fraction = 0.95
    div_factor: Positive = 25.0
    final_div_factor: Positive = 1e4
    three_phase: bool = False


class ReduceLROnPlateau(Scheduler):
    """torch.optim.lr_scheduler.ReduceLROnPlateau, which looks at `metric` after each epoch."""

    interval: Literal["epoch"] = "epoch"
    metric: Metric = "val_loss"
    mode: Literal["min", "max"] = "min"
    factor: Fraction = 0.1
    patience: Count = 10
    threshold: Share = 1e-4
    threshold_mode: Literal["rel", "abs"] = "rel"
    cooldown: Count = 0
    min_lr: NonNegative = 0.0
    eps: NonNegative = 1e-8

    @model_validator(mode="after")
    def _the_right_way(self) -> Self:
        if (self.metric == "val_accuracy") != (self.mode == "max"):
            raise ValueError("mode must be max for val_accuracy and min for val_loss")
        return self


SCHEDULERS: dict[str, type[Arguments]] = {
    kind.__name__: kind
    for kind in (
        *(StepLR, MultiStepLR, ExponentialLR, CosineAnnealingLR, OneCycleLR),
        ReduceLROnPlateau,
    )
}
