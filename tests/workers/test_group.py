"""Two processes that share each batch come to what one comes to. What they do is in two.py."""

import json
import math
import subprocess
import sys
from typing import Any

import pytest
import torch

from workers.batches import Batch, Samples
from workers.group import Group
from workers.losses import Loss

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
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


def test_alone_a_batch_stays_as_it_is() -> None:
    index = torch.tensor([3, 1, 2])
    train = Samples(pixels=torch.zeros(0), labels=torch.arange(9), index=index)
    batch = Batch(index, share=0.5)
    made: list[torch.Tensor] = []

    def make(of: torch.Tensor) -> Any:
        made.append(of)
        return "prepared"

    group = Group()
    found = group.prepare(batch, train, make, loss=Loss(), mixed=False, least=2)

    assert found == (batch, "prepared")
    assert made[0] is index
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
def test_parts_of_a_batch(images: int, least: int, parts: list[int], alike: bool) -> None:
    index = torch.arange(10, 10 + images)
    train = Samples(pixels=torch.zeros(0), labels=torch.arange(30) % 3, index=index)
    seen: list[int] = []
    shares: list[float] = []
    made: list[int] = []

    def make(of: torch.Tensor) -> Any:
        from workers.steps import Prepared

        made.append(len(of))
        return Prepared(of, train.labels[of], train.labels[of])

    for rank in range(3):
        group = Group(rank, 3, alike=alike)
        mine, prepared = group.prepare(
            Batch(index), train, make, loss=Loss(), mixed=False, least=least
        )
        assert prepared.inputs.tolist() == mine.index.tolist()
        seen += mine.index.tolist()
        shares.append(float(mine.share or 0))

    assert seen == index.tolist()
    assert shares == pytest.approx([count / images for count in parts])
    assert made == ([images] * 3 if alike else [count or 1 for count in parts])
