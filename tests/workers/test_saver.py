from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch
from sqlalchemy.orm import Session, sessionmaker
from torch import nn

from database import checkpoints as rows
from database import jobs
from database.jobs import Fence
from models_store import architectures, checkpoints
from models_store.manifest import Preprocessing
from models_store.recipe import Recipe
from workers.reporter import Stopped
from workers.saver import Origin, Saver
from workers.training import EpochEnd, Metrics

Sessions = sessionmaker[Session]
NewSaver = Callable[..., Saver]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    planned = architectures.plan("mnist_net", channels=1, size=(12, 12), classes=2)
    return architectures.build(planned).to(memory_format=torch.channels_last)


@pytest.fixture
def saver(
    root: Path, sessions: Sessions, running: Fence, recipe: Callable[..., Recipe]
) -> NewSaver:
    def saver(keep: int | Literal["all"]) -> Saver:
        return Saver(
            root,
            sessions,
            running,
            recipe=recipe(checkpoints={"keep": keep}),
            origin=Origin(
                architecture="mnist_net",
                classes=("left", "right"),
                dataset={"name": "shapes", "version": "v1"},
                preprocessing=Preprocessing(
                    height=12, width=12, channels=1, trained_height=20, trained_width=30
                ),
                made_with={"device": "cpu", "precision": "fp32", "threads": "1"},
            ),
        )

    return saver


def end(epoch: int, accuracy: float, loss: float = 0.5) -> EpochEnd:
    return EpochEnd(epoch, epoch * 4, Metrics(0.6, 0.7), Metrics(loss, accuracy), 0.1, 1.0, 50.0)


def epochs(sessions: Sessions, fence: Fence, root: Path) -> list[int]:
    """Epochs of the checkpoints there are: rows and folders agree."""
    with sessions() as session:
        found = rows.of_job(session, fence.job_id)
    assert sorted(row.id for row in found) == sorted(folder.name for folder in root.iterdir())
    for row in found:
        manifest = checkpoints.read_manifest(root / row.id)
        assert (manifest.id, manifest.epoch, manifest.job_id) == (row.id, row.epoch, fence.job_id)
        assert row.disk_bytes == checkpoints.disk_bytes(root / row.id)
    return [row.epoch for row in found]


ACCURACIES = [0.5, 0.9, 0.7, 0.6, 0.8, 0.7]


@pytest.mark.parametrize(
    ("keep", "kept"),
    [(2, [2, 5, 6]), (1, [2, 6]), (5, [2, 3, 4, 5, 6]), ("all", [1, 2, 3, 4, 5, 6])],
)
def test_the_newest_and_the_best_are_kept(
    saver: NewSaver,
    network: nn.Module,
    sessions: Sessions,
    running: Fence,
    root: Path,
    keep: int | Literal["all"],
    kept: list[int],
) -> None:
    saving = saver(keep)
    for epoch, accuracy in enumerate(ACCURACIES, 1):
        saving.save(network, end(epoch, accuracy), {})

    assert epochs(sessions, running, root) == kept
    assert checkpoints.read_manifest(saving.best()).epoch == 2


def test_the_best_so_far_makes_room_for_a_better_one(
    saver: NewSaver, network: nn.Module, sessions: Sessions, running: Fence, root: Path
) -> None:
    saving = saver(1)
    for epoch, accuracy in enumerate([0.5, 0.4, 0.6, 0.6], 1):
        saving.save(network, end(epoch, accuracy, loss=1 / epoch), {})

    # Equal accuracy: the lower loss is the better one.
    assert epochs(sessions, running, root) == [4]


def test_the_job_knows_its_best_and_its_bytes(
    saver: NewSaver, network: nn.Module, running: Fence, job: Callable[[Fence], jobs.Job]
) -> None:
    saving = saver("all")
    saving.save(network, end(1, 0.9), {})
    best = saving.best()
    saving.save(network, end(2, 0.3), {})

    assert job(running).best_checkpoint_id == best.name
    assert job(running).best_val_accuracy == 0.9
    assert job(running).disk_bytes == 2 * checkpoints.disk_bytes(best)


def test_the_manifest_says_all_that_it_takes_to_predict(
    saver: NewSaver, network: nn.Module, running: Fence, recipe: Callable[..., Recipe]
) -> None:
    saving = saver("all")
    saving.save(network, end(3, 0.9), {"val_accuracy": 0.9, "test_loss": None})

    manifest = checkpoints.read_manifest(saving.best())

    assert manifest.architecture == "mnist_net"
    assert manifest.classes == ["left", "right"]
    assert manifest.dataset == {"name": "shapes", "version": "v1"}
    assert manifest.preprocessing.trained_width == 30
    assert manifest.recipe == recipe(checkpoints={"keep": "all"}).model_dump(mode="json")
    assert (manifest.job_id, manifest.epoch) == (running.job_id, 3)
    assert manifest.metrics == {"val_accuracy": 0.9, "test_loss": None}
    assert manifest.made_with.keys() == {"danlu", "torch", "device", "precision", "threads"}
    state = checkpoints.read_state(saving.best(), manifest)
    for name, weight in network.state_dict().items():
        assert torch.equal(state[name], weight)


def test_a_lost_claim_leaves_no_files(
    saver: NewSaver, network: nn.Module, sessions: Sessions, running: Fence, root: Path
) -> None:
    saving = saver("all")
    saving.save(network, end(1, 0.5), {})
    with sessions.begin() as session:
        jobs.release(session, running)

    with pytest.raises(Stopped):
        saving.save(network, end(2, 0.9), {})

    assert epochs(sessions, running, root) == [1]


def test_what_an_earlier_attempt_had_saved_is_left_as_it_is(
    saver: NewSaver, network: nn.Module, sessions: Sessions, running: Fence, root: Path
) -> None:
    earlier = saver(2)
    for epoch in range(1, 6):
        earlier.save(network, end(epoch, 0.5 + epoch / 10), {})
    before = {folder.name for folder in root.iterdir()}

    later = saver(2)  # which goes on after the third epoch
    for epoch in (4, 5):
        later.save(network, end(epoch, 0.5 + epoch / 10), {})

    assert {folder.name for folder in root.iterdir()} == before
    assert epochs(sessions, running, root) == [4, 5]
    later.save(network, end(6, 0.4), {})
    assert epochs(sessions, running, root) == [5, 6]


def test_the_newest_is_the_last_epoch_and_where_it_is(
    saver: NewSaver, network: nn.Module, root: Path
) -> None:
    saving = saver(5)
    assert saving.newest() is None

    for epoch in (1, 2):
        saving.save(network, end(epoch, 1 / epoch), {})

    newest = saving.newest()
    assert newest is not None
    epoch, folder = newest
    assert epoch == checkpoints.read_manifest(folder).epoch == 2
    assert folder.parent == root


def test_without_a_checkpoint_there_is_no_best(saver: NewSaver) -> None:
    with pytest.raises(LookupError, match="has no checkpoint"):
        saver("all").best()
