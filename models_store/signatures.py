"""What the arguments of PyTorch's classes have in common: unknown names are refused, and ranges.

Torch-free. Which classes there are is told by `optimizers`, `schedulers` and `losses`.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from models_store.numbers import Whole

NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=0, lt=2**53), Whole]
Number = Annotated[int, Field(ge=1, lt=2**53), Whole]
Betas = Annotated[list[Fraction], Field(min_length=2, max_length=2)]


class Arguments(BaseModel):
    """Base of all argument models: unknown names are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
