"""Numbers as JSON has them."""

import pytest
from pydantic import TypeAdapter, ValidationError

from models_store.numbers import Share, Side


@pytest.mark.parametrize("given", [1, 28, 28.0, 2048])
def test_a_whole_number_may_be_written_with_a_point(given: float) -> None:
    side = TypeAdapter(Side).validate_python(given, strict=True)
    assert (side, type(side)) == (given, int)


@pytest.mark.parametrize("given", [0, -1, 2049, 28.5, "28", True, None, float("inf")])
def test_no_side(given: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Side).validate_python(given, strict=True)


@pytest.mark.parametrize("given", [-0.1, 1.1, "0.5"])
def test_no_share(given: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Share).validate_python(given, strict=True)
