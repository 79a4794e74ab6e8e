"""The policies are the published ones, as torchvision has them."""

from typing import Any

import pytest

from workers.augmentation.policy_tables import POLICIES


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_is_torchvisions(name: str, v2: Any) -> None:
    theirs = v2.AutoAugment(v2.AutoAugmentPolicy(name))._policies
    assert POLICIES[name] == [
        tuple((what, likely, strength or 0) for what, likely, strength in pair) for pair in theirs
    ]


def test_there_are_no_others(v2: Any) -> None:
    assert set(POLICIES) == {policy.value for policy in v2.AutoAugmentPolicy}
