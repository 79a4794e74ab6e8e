"""Where the weights that a job starts from come from. A stand-in is published, by nobody."""

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from data_store import weights
from database.jobs import Fence
from models_store import pretrained, zoo
from models_store.pretrained import Published
from models_store.recipe import Recipe
from problems import Problem
from workers import pretraining, state
from workers.task import Task

MakeRecipe = Callable[..., Recipe]
NAME = "squeezenet1_1"


class Holding:
    """Stands in for the device that a job holds."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def progress(self, phase: str, done: int, total: int) -> None:
        self.given.append(phase)

    @contextmanager
    def given_up(self) -> Iterator[None]:
        self.given.append("given up")
        yield
        self.given.append("taken")


class Obtaining:
    """A job about to begin."""

    def __init__(self, task: Task, recipe: MakeRecipe) -> None:
        self.task, self._recipe = task, recipe
        self.holding = Holding()
        self.warnings: dict[str, str] = {}

    def __call__(self, pretrained: Any, *, warned: tuple[dict[str, str], ...] = ()) -> Path | None:
        recipe = self._recipe(architecture=NAME, pretrained=pretrained, channels=3)
        return pretraining.obtain(
            recipe, self.task, self.holding, warn=self.warnings.__setitem__, warned=warned
        )


@pytest.fixture
def obtain(tmp_path: Path, recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> Obtaining:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folders = ("datasets", "cache", "checkpoints", "weights", "runs", "uploads")
    task = Task(
        fence=Fence(job_id="job_1", worker_id="w1", claim=1),
        kind="train",
        device="cpu",
        database="sqlite:///x",
        **{name: tmp_path / name for name in folders},
        mirrors=("http://127.0.0.1:9/own/",),
    )
    return Obtaining(task, recipe)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file as torchvision would publish it for `NAME`, not yet where anybody looks."""
    torch.manual_seed(1)
    network = zoo.build(NAME, channels=3, size=(224, 224), classes=1000)
    torch.save(network.state_dict(), tmp_path / "file")
    checksum = hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()[:8]
    path = (tmp_path / "file").rename(tmp_path / f"{NAME}-{checksum}.pth")
    stand_in = Published(
        file=path.name,
        url=f"http://127.0.0.1:9/{path.name}",
        sha256=checksum,
        bytes=path.stat().st_size,
        size=224,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
    monkeypatch.setattr(pretrained, "published", lambda _: stand_in)
    return path


def test_nothing_asked_for_is_nothing(obtain: Obtaining) -> None:
    assert obtain(False) is None
    assert obtain.holding.given == []


@pytest.mark.parametrize("folder", ["weights", "torch/hub/checkpoints"])
@pytest.mark.parametrize("wanted", [True, "auto"])
def test_a_file_that_is_there_is_taken(
    wanted: Any, folder: str, obtain: Obtaining, published: Path, tmp_path: Path
) -> None:
    (tmp_path / folder).mkdir(parents=True)
    there = published.rename(tmp_path / folder / published.name)

    assert obtain(wanted) == there
    assert obtain.holding.given == []
    assert obtain.warnings == {}


def test_a_file_that_is_not_is_fetched_without_the_device(
    obtain: Obtaining, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def fetch(one: weights.Wanted, folder: Path, progress: Any, **how: Any) -> Path:
        asked.append(how)
        progress("downloading", 0, 1)
        return folder / one.name

    monkeypatch.setattr(weights, "fetch", fetch)
    assert obtain(True) == obtain("auto") == obtain.task.weights / published.name
    own = {"mirrors": ("http://127.0.0.1:9/own/",)}
    assert asked == [{**own, "seconds": math.inf}, {**own, "seconds": 60}]
    told = [word for word, _ in itertools.groupby(obtain.holding.given)]
    assert told == ["given up", "downloading", "taken"] * 2


def test_without_internet_only_auto_goes_on(obtain: Obtaining, published: Path) -> None:
    with pytest.raises(Problem) as caught:
        obtain(True)
    assert caught.value.code == "weights_unavailable"

    assert obtain("auto") is None
    assert obtain.warnings["weights_unavailable"].startswith("Trained from scratch. ")
    assert (
        f"http://127.0.0.1:9/own/weights/{published.name} Conn"
        in obtain.warnings["weights_unavailable"]
    )
    told = [word for word, _ in itertools.groupby(obtain.holding.given)]  # slow: more than once
    assert told == ["given up", "downloading", "given up", "downloading", "taken"]


def test_auto_does_not_take_every_trouble(
    obtain: Obtaining, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Path:
        raise Problem("disk_full", "The disk is full.")

    monkeypatch.setattr(weights, "fetch", full)
    with pytest.raises(Problem, match="disk"):
        obtain("auto")


@pytest.mark.parametrize("wanted", [True, "auto"])
def test_a_job_that_goes_on_needs_no_file_and_keeps_its_warning(
    wanted: Any, obtain: Obtaining, published: Path
) -> None:
    folder = obtain.task.run / state.FOLDER
    folder.mkdir(parents=True)
    (folder / "training.safetensors").write_bytes(b"what an earlier attempt left")
    before = (
        {"code": "validation_tiny", "message": "tiny"},
        {"code": "weights_unavailable", "message": "as it was"},
    )

    assert obtain(wanted, warned=before) is None
    assert obtain.warnings == {"weights_unavailable": "as it was"}


def test_loaded_they_are_the_networks_but_for_its_head(recipe: MakeRecipe, published: Path) -> None:
    network = zoo.build(NAME, channels=3, size=(32, 32), classes=2)
    head = network.state_dict()["classifier.1.weight"].clone()

    pretraining.load(network, recipe(architecture=NAME), published)

    theirs = torch.load(published, weights_only=True)
    ours = network.state_dict()
    assert torch.equal(ours["features.0.weight"], theirs["features.0.weight"])
    assert torch.equal(ours["classifier.1.weight"], head)


def test_a_network_without_weights_is_none_of_ours(
    obtain: Obtaining, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = obtain._recipe(architecture=NAME).model_copy(update={"pretrained": True})
    monkeypatch.setattr(pretrained, "published", lambda _: None)
    with pytest.raises(Problem, match="no published weights"):
        pretraining.obtain(recipe, obtain.task, obtain.holding, warn=print, warned=())
