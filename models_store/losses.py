"""The arguments of the losses that a classifier can be trained with, with PyTorch's names.

Torch-free; a test holds every model against the signature of its class.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from models_store.numbers import Share, Whole
from models_store.signatures import Arguments, NonNegative

Weights = Annotated[list[NonNegative], Field(min_length=1, max_length=100_000)]

# PyTorch's word for "no label is ignored".
NO_LABEL = -100


class Loss(Arguments):
    """What all have in common."""

    reduction: Literal["mean", "sum"] = "mean"

    @field_validator("reduction", mode="before")
    @classmethod
    def _one_number(cls, value: Any) -> Any:
        if value == "none":
            raise ValueError("'none' leaves no single number to go down: take 'mean' or 'sum'")
        return value


class CrossEntropyLoss(Loss):
    """torch.nn.CrossEntropyLoss."""

    weight: Weights | None = None
    ignore_index: Annotated[int, Field(ge=NO_LABEL, le=100_000), Whole] = NO_LABEL
    label_smoothing: Share = 0.0


class L1Loss(Loss):
    """torch.nn.L1Loss, between the network's outputs and one-hot labels."""


class MSELoss(Loss):
    """torch.nn.MSELoss, between the network's outputs and one-hot labels."""


LOSSES: dict[str, type[Arguments]] = {
    kind.__name__: kind for kind in (CrossEntropyLoss, L1Loss, MSELoss)
}
