"""What all argument models refuse."""

import math
from typing import Any

import pytest
from pydantic import ValidationError

from models_store.signatures import Arguments, Betas, Count, Number


class Some(Arguments):
    count: Count = 0
    number: Number = 1
    betas: Betas | None = None


@pytest.mark.parametrize(
    "given",
    [
        {"counts": 1},
        {"count": -1},
        {"count": True},
        {"count": "1"},
        {"number": 0},
        {"number": 1.5},
        {"betas": [0.9]},
        {"betas": [0.9, 1.0]},
        {"betas": [0.9, math.nan]},
    ],
)
def test_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Some.model_validate(given)


def test_json_has_one_kind_of_number() -> None:
    assert Some.model_validate({"count": 5.0}).count == 5
    assert type(Some.model_validate({"count": 5.0}).count) is int
