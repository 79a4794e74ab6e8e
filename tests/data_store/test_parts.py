"""Records do not change once made."""

import dataclasses

import pytest

from data_store.parts import Skipped


def test_records_are_frozen() -> None:
    skipped = Skipped("cat/1.png", "truncated_image", "cut off")
    with pytest.raises(dataclasses.FrozenInstanceError):
        skipped.file = "cat/2.png"
