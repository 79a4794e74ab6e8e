"""Two processes that share each batch come to what one comes to. What they do is in two.py."""

import json
import math
import subprocess
import sys
from typing import Any

import pytest
import torch

from workers.batches import Batch
from workers.group import Group
from workers.losses import Loss

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there is no fork"),
    pytest.mark.xdist_group("group"),  # what they share is made once
]
Found = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def found() -> Found:
    command = [sys.executable, "-W", "error", "-m", "tests.workers.two"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=100)
    results: Found = json.loads(done.stdout)
    return results


EXACT = ["plain", "one image left", "accumulated", "some ignored", "mixed", "summed", "plateau"]


@pytest.mark.parametrize("name", [*EXACT, "in parts there", "stopped"])
def test_two_processes_come_to_the_weights_of_one(found: Found, name: str) -> None:
    assert found[name]["difference"] < 1e-5
    assert found[name]["one"]["steps"] == found[name]["two"]["steps"]


@pytest.mark.parametrize("name", [*EXACT, "in parts there"])
def test_they_measure_what_one_measures(found: Found, name: str) -> None:
    one, two = found[name]["one"], found[name]["two"]

    assert two["images"] == one["images"]
    for ours, alone in zip(two["measured"], one["measured"], strict=True):
        assert ours == pytest.approx(alone, rel=1e-4, abs=1e-5)


def test_they_have_the_same_weights(found: Found) -> None:
    """To the bit; what BatchNorm has seen, too."""
    assert [name for name, both in found.items() if not both["two"]["alike"]] == []


def test_schedule_and_patience_are_those_of_one(found: Found) -> None:
    one, two = found["plateau"]["one"], found["plateau"]["two"]

    assert two["lr"] == one["lr"]
    assert len(set(two["lr"])) > 1
    assert two["stop_reason"] == one["stop_reason"] == "early_stopping"


@pytest.mark.parametrize("name", ["normalised", "changed by each"])
def test_where_parts_differ_from_the_whole_it_is_not_by_much(found: Found, name: str) -> None:
    one, two = found[name]["one"], found[name]["two"]

    assert found[name]["difference"] > 1e-5
    assert two["steps"] == one["steps"]
    assert two["measured"][-1][0] == pytest.approx(one["measured"][-1][0], rel=0.2)
    assert all(math.isfinite(number) for row in two["measured"] for number in row)


def test_who_leads_stops_them_all(found: Found) -> None:
    assert found["stopped"]["two"]["steps"] == 3
    assert found["out of time"]["two"]["stop_reason"] == "max_seconds"


def test_alone_all_stays_as_it_is() -> None:
    index = torch.tensor([3, 1, 2])
    batch, group = Batch(index, share=0.5), Group()

    assert group.divide(batch, torch.arange(9), Loss(), mixed=False, least=2) is batch
    assert group.part(index).tolist() == [3, 1, 2]
    assert (group.agree(True), group.agree(False)) == (True, False)
    assert group.sum(index) is index


@pytest.mark.parametrize(
    ("images", "least", "parts"),
    [
        (8, 1, [3, 3, 2]),
        (8, 2, [3, 3, 2]),
        (5, 2, [3, 2, 0]),  # none of one image
        (1, 1, [1, 0, 0]),
        (1, 2, [1, 0, 0]),
    ],
)
@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("share", [None, 0.5])
def test_parts_of_a_batch(
    images: int, least: int, parts: list[int], alike: bool, share: float | None
) -> None:
    """Prepared is the whole batch, or no more than is needed."""
    index, labels = torch.arange(10, 10 + images), torch.arange(30) % 3
    seen: list[int] = []
    shares: list[float] = []
    prepared: list[int] = []

    for rank in range(3):
        group = Group(rank, 3, alike=alike)
        mine = group.divide(Batch(index, share=share), labels, Loss(), mixed=False, least=least)
        assert mine.here is not None
        here = mine.index[mine.here].tolist()
        assert mine.index.tolist() == group.prepared(index, least).tolist()
        prepared.append(len(mine.index))
        seen += here
        shares += [float(mine.share or 0)] if here else []

    assert seen == index.tolist()
    whole = 1 if share is None else share
    assert shares == pytest.approx([whole * count / images for count in parts if count])
    assert prepared == ([images] * 3 if alike else [count or 1 for count in parts])


def test_classes_that_weigh_more_count_for_more_in_a_part() -> None:
    loss = Loss(weight=torch.tensor([1.0, 3.0]))
    labels = torch.tensor([0, 0, 1, 1])
    batch = Batch(torch.arange(4))

    shares = [
        Group(rank, 2).divide(batch, labels, loss, mixed=mixed, least=1).share
        for mixed in (False, True)
        for rank in (0, 1)
    ]

    assert [float(share) for share in shares if share is not None] == [0.25, 0.75, 0.5, 0.5]
