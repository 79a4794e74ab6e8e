"""Kinds of numbers that the fields of a recipe share. Knows no field."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# JSON has one kind of number: 5.0 is an integer to it, and some languages write 5 so. It stands
# after the limits, or the OpenAPI document would not show them.
Whole = BeforeValidator(_whole)

Side = Annotated[int, Field(ge=1, le=2048), Whole]  # of an image, in pixels
Share = Annotated[float, Field(ge=0, le=1)]
