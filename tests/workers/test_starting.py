"""The checkpoint that a job starts from; trainings that do are in test_run_train."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from database.jobs import Fence
from models_store import architectures, checkpoints
from models_store.manifest import Manifest, Preprocessing
from models_store.recipe import Recipe
from problems import Problem
from workers import starting
from workers.starting import Start
from workers.task import Task

PLAN = architectures.plan("lenet5", channels=1, size=(28, 28), classes=2)
CLASSES = ["a", "b"]


@pytest.fixture
def task(tmp_path: Path) -> Task:
    folders = ("datasets", "cache", "checkpoints", "weights", "runs", "uploads")
    return Task(
        fence=Fence(job_id="job_1", worker_id="w1", claim=1),
        kind="train",
        device="cpu",
        database="sqlite:///x",
        **{name: tmp_path / name for name in folders},
    )


@pytest.fixture
def weights(task: Task) -> dict[str, torch.Tensor]:
    """Those of the checkpoint ckpt_1."""
    torch.manual_seed(0)
    state = architectures.build(PLAN).state_dict()
    shape = {"height": 28, "width": 28, "trained_height": 28, "trained_width": 28}
    manifest = Manifest(
        id="ckpt_1",
        job_id=None,
        architecture="lenet5",
        classes=CLASSES,
        preprocessing=Preprocessing(channels=1, **shape),
        recipe={},
        dataset={},
        epoch=0,
        metrics={},
        made_with={},
        created_at=datetime.now(UTC),
    )
    checkpoints.save(task.checkpoints, state, manifest)
    return state


@pytest.fixture
def obtain(
    task: Task, recipe: Callable[..., Recipe]
) -> Callable[..., tuple[Start | None, dict[str, str]]]:
    def obtain(
        init_from: str | None, classes: list[str] = CLASSES
    ) -> tuple[Start | None, dict[str, str]]:
        told: dict[str, str] = {}
        asked = recipe().model_copy(update={"init_from": init_from})
        return starting.obtain(asked, task, PLAN, classes, warn=told.__setitem__), told

    return obtain


def test_nothing_asked_for_is_nothing(obtain: Callable[..., object]) -> None:
    assert obtain(None) == (None, {})


@pytest.mark.parametrize(("classes", "anew"), [(CLASSES, 0), (["b", "a"], 2)])
def test_its_weights_go_into_the_network(
    obtain: Callable[..., tuple[Start, dict[str, str]]],
    weights: dict[str, torch.Tensor],
    classes: list[str],
    anew: int,
) -> None:
    start, told = obtain("ckpt_1", classes)
    network = architectures.build(PLAN)
    start.fill(network)
    differing = [k for k, v in network.state_dict().items() if not torch.equal(v, weights[k])]
    assert len(differing) == anew
    assert ("new_head" in told) == bool(anew)


def test_a_last_layer_of_another_shape_is_told_of(
    task: Task, weights: dict[str, torch.Tensor], recipe: Callable[..., Recipe]
) -> None:
    linear = {"layers": [{"type": "Flatten"}, {"type": "Linear"}]}
    big, small = (
        architectures.plan(linear, channels=1, size=(side, side), classes=2) for side in (28, 20)
    )
    old = checkpoints.read_manifest(task.checkpoints / "ckpt_1")
    manifest = old.model_copy(update={"id": "ckpt_2", "architecture": linear})
    checkpoints.save(task.checkpoints, architectures.build(big).state_dict(), manifest)
    told: dict[str, str] = {}
    asked = recipe().model_copy(update={"init_from": "ckpt_2"})
    start = starting.obtain(asked, task, small, CLASSES, warn=told.__setitem__)
    assert start is not None
    start.fill(architectures.build(small))
    assert told["new_head"].startswith("The last layer has another shape than that of ckpt_2, so")


def test_one_that_is_gone_is_needed_only_at_the_beginning(
    obtain: Callable[..., object], task: Task
) -> None:
    with pytest.raises(Problem) as caught:
        obtain("ckpt_1")
    assert caught.value.code == "checkpoint_not_found"
    state = task.run / "state"
    state.mkdir(parents=True)
    (state / "training.safetensors").write_bytes(b"an earlier attempt's")
    assert obtain("ckpt_1") == (None, {})
