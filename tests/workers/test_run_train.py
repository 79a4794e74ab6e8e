import errno
import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sqlalchemy.orm import Session, sessionmaker
from torch import nn
from torch._inductor import config as inductor

from data_store import arrays, catalog
from database import checkpoints as rows
from database import events, history, jobs
from database.jobs import Fence
from models_store import checkpoints, pretrained, report, zoo
from models_store import recipe as recipes
from models_store.classifier import Classified, Classifier
from models_store.fields import Normalize
from models_store.manifest import Manifest
from models_store.pretrained import Published
from models_store.recipe import Recipe, SubmittedRecipe
from tests.workers.conftest import half
from workers import run_job, run_train
from workers.reporter import Stop
from workers.run_job import Outcome
from workers.task import Task

Sessions = sessionmaker[Session]
WriteImages = Callable[..., Path]
Until = Callable[..., Any]
FOREVER = {"epochs": 100_000}


class Held:
    """Stands in for the supervisor: there is one device, and it is free."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def give_up(self) -> None:
        self.calls.append("give up")

    def take(self) -> tuple[str, ...]:
        self.calls.append("take")
        return ("cpu",)


class Work:
    """One job on the data sets below `root`, and what came of it."""

    def __init__(self, root: Path, url: str, sessions: Sessions) -> None:
        self.root = root
        self.home = root.parent
        self.url = url
        self.sessions = sessions
        self.held = Held()
        self.stop = Stop()
        self.fence: Fence

    def resolve(self, **given: Any) -> Recipe:
        asked = {
            "dataset": "shapes",
            "architecture": "mnist_net",
            "image_size": 12,
            "epochs": 2,
            "batch_size": 8,
            "optimizer": {"name": "Adam", "lr": 0.003},
            "transforms": {"train": []},
            "precision": "fp32",
            "seed": 0,
            **given,
        }
        submitted = SubmittedRecipe.model_validate(asked)
        start = submitted.init_from and self.home / "checkpoints" / submitted.init_from
        return recipes.resolve(
            submitted,
            catalog.facts(str(asked["dataset"]), self.root),
            start=checkpoints.read_manifest(start) if start else None,
        )

    def claim(self, recipe: Recipe) -> None:
        with self.sessions.begin() as session:
            jobs.enqueue(
                session,
                kind="train",
                dataset=recipe.dataset,
                recipe=recipe.model_dump(mode="json"),
                owner="lin",
            )
        self.claim_next()

    def claim_next(self) -> None:
        with self.sessions.begin() as session:
            job = jobs.claim(session, worker_id="w1", host="here", device="cpu")
        assert job is not None
        self.fence = jobs.fence_of(job)
        self.stop = Stop()

    def claim_again(self) -> None:
        """As the next attempt, after a loss."""
        with self.sessions.begin() as session:
            assert jobs.lose(session, self.fence, reason="of a crash")
        self.claim_next()

    def resume(self, **given: Any) -> None:
        """After its end."""
        with self.sessions.begin() as session:
            assert jobs.finish(session, self.fence, state=jobs.State.succeeded)
            jobs.resume(session, self.fence.job_id, **given)
        self.claim_next()

    def run(self, **given: Any) -> Outcome:
        self.claim(self.resolve(**given))
        return self.train()

    def train(self, **how: Any) -> Outcome:
        task = Task(
            fence=self.fence,
            kind="train",
            device="cpu",
            database=self.url,
            datasets=self.root,
            cache=self.home / "cache",
            checkpoints=self.home / "checkpoints",
            weights=self.home / "weights",
            runs=self.home / "runs",
            uploads=self.home / "uploads",
        )
        return run_job.run(task, self.held, self.stop, **how)

    @property
    def job(self) -> jobs.Job:
        with self.sessions() as session:
            return jobs.get(session, self.fence.job_id)

    @property
    def metrics(self) -> dict[str, Any]:
        assert self.job.metrics is not None
        return self.job.metrics

    @property
    def warnings(self) -> dict[str, str]:
        return {warning["code"]: warning["message"] for warning in self.job.warnings}

    def epochs(self) -> list[history.Epoch]:
        with self.sessions() as session:
            return history.epochs(session, self.fence.job_id)

    def numbers(self, attempt: int = 1) -> dict[int, tuple[float | None, ...]]:
        """What each epoch of an attempt measured, to the bit."""
        return {
            row.epoch: (row.train_loss, row.train_accuracy, row.val_loss, row.val_accuracy, row.lr)
            for row in self.epochs()
            if row.attempt == attempt
        }

    def lines(self) -> list[str]:
        """What the job logged, as those who listen hear it."""
        with self.sessions() as session:
            told = events.since(session, 0, job_id=self.fence.job_id, limit=10_000)
        return [one.data["line"] for one in told if one.type == "log"]

    def saved(self) -> list[int]:
        with self.sessions() as session:
            return [row.epoch for row in rows.of_job(session, self.fence.job_id)]

    @property
    def best(self) -> Path:
        return self.home / "checkpoints" / str(self.job.best_checkpoint_id)

    @property
    def manifest(self) -> Manifest:
        return checkpoints.read_manifest(self.best)


@pytest.fixture
def work(tmp_path: Path, url: str, sessions: Sessions, caplog: pytest.LogCaptureFixture) -> Work:
    caplog.set_level(logging.INFO)  # as in a child
    return Work(tmp_path / "datasets", url, sessions)


@pytest.fixture
def meanwhile(until: Until) -> Iterator[Callable[..., None]]:
    """Does something in another thread once something is true."""
    threads: list[threading.Thread] = []

    def meanwhile(true: Callable[[], Any], do: Callable[[], Any]) -> None:
        def wait() -> None:
            until(true)
            do()

        threads.append(threading.Thread(target=wait))
        threads[-1].start()

    yield meanwhile
    for thread in threads:
        thread.join()


def test_a_job_from_its_row_to_its_last_checkpoint(work: Work, write_images: WriteImages) -> None:
    write_images("train", "test")

    outcome = work.run(epochs=6)

    assert outcome == Outcome("succeeded", stop_reason="completed")
    job = work.job
    assert (job.state, job.worker_pid, job.device) == ("running", os.getpid(), "cpu")
    assert (
        job.dataset_version == catalog.facts("shapes", work.root, cache=work.home / "cache").version
    )
    assert [row.epoch for row in work.epochs()] == [1, 2, 3, 4, 5, 6]
    assert work.saved()[-5:] == [2, 3, 4, 5, 6]
    assert job.progress is not None
    assert (job.progress["phase"], job.progress["epoch"]) == ("evaluating", 6)
    assert (job.progress["step"], job.progress["fraction"]) == (job.progress["steps"], 1)
    assert work.metrics["val_count"] == 6
    assert work.epochs()[-1].train_accuracy == work.metrics["train_accuracy"] == 1
    assert work.held.calls == []


def test_the_test_part_is_measured_on_the_best_as_it_was_saved(
    work: Work, write_images: WriteImages
) -> None:
    write_images("train", "test", count=20)

    # Uphill, so that the first epoch stays the best.
    work.run(epochs=3, optimizer={"name": "SGD", "lr": 0.02, "maximize": True})

    classifier = Classifier.load(work.best)
    assert classifier.manifest.epoch == 1
    assert work.metrics["test_loss"] < work.metrics["val_loss"]
    files = sorted((work.root / "shapes" / "test").rglob("*.png"))
    answers = classifier.classify([file.read_bytes() for file in files])
    labels = [classifier.manifest.classes.index(file.parent.name) for file in files]
    chances = [answer.probabilities for answer in answers if isinstance(answer, Classified)]
    right = [int(chance.argmax()) == label for chance, label in zip(chances, labels, strict=True)]
    losses = [-np.log(chance[label]) for chance, label in zip(chances, labels, strict=True)]
    assert work.metrics["test_accuracy"] == pytest.approx(np.mean(right))
    assert work.metrics["test_loss"] == pytest.approx(np.mean(losses), abs=1e-5)
    assert all(row.test_accuracy is None for row in work.epochs())


def test_the_manifest_says_how_it_was_made(work: Work, write_images: WriteImages) -> None:
    write_images("train", "test")

    work.run(normalize="auto")

    manifest = work.manifest
    pixels = arrays.load(
        "shapes",
        root=work.root,
        cache=work.home / "cache",
        size=(12, 12),
        channels=1,
        progress=lambda *_: None,
    )
    assert manifest.classes == ["left", "right"]
    assert (manifest.architecture, manifest.job_id) == ("mnist_net", work.fence.job_id)
    assert manifest.dataset == {"name": "shapes", "version": pixels.version}
    assert Recipe.model_validate(manifest.recipe) == work.resolve(normalize="auto")
    assert manifest.made_with["precision"] == "fp32"
    preprocessing = manifest.preprocessing
    assert (preprocessing.height, preprocessing.width, preprocessing.channels) == (12, 12, 1)
    assert (preprocessing.trained_height, preprocessing.trained_width) == (12, 12)
    assert preprocessing.normalize is not None
    scaled = pixels.parts["train"].images / 255
    assert preprocessing.normalize.mean == pytest.approx([scaled.mean()], abs=1e-5)
    assert preprocessing.normalize.std == pytest.approx([scaled.std()], abs=1e-5)
    measured = next(row for row in work.epochs() if row.epoch == manifest.epoch)
    assert manifest.metrics["val_accuracy"] == measured.val_accuracy


def test_a_streamed_run_comes_to_the_same_numbers(work: Work, write_images: WriteImages) -> None:
    root = write_images("train", "test", count=20)
    (root / "shapes/train/left/broken.png").write_bytes(b"junk")
    flips = [{"type": "RandomHorizontalFlip"}, {"type": "RandomCrop", "size": 12, "padding": 2}]
    asked = {"normalize": "auto", "transforms": {"train": flips}, "seed": 3}
    found = {}
    for mode in ("resident", "stream"):
        outcome = work.run(**asked, data_loader={"mode": mode, "num_workers": 0})
        assert outcome.state == "succeeded"
        assert work.manifest.made_with["data_loader.mode"] == mode
        [warning] = [each for each in work.job.warnings if each["code"] == "unreadable_images"]
        assert "broken.png" in warning["message"]
        curves = [(row.train_loss, row.val_loss, row.val_accuracy) for row in work.epochs()]
        found[mode] = (curves, work.metrics, work.manifest.preprocessing)
    assert found["stream"] == found["resident"]


def test_a_set_that_memory_has_no_room_for_is_streamed(
    work: Work, write_images: WriteImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images("train")
    monkeypatch.setattr("workers.memory.available", lambda **_: 1000)

    outcome = work.run(epochs=1)

    assert outcome.state == "succeeded"
    assert work.manifest.made_with["data_loader.mode"] == "stream"
    [warning] = [each for each in work.job.warnings if each["code"] == "images_streamed"]
    assert "500 of memory" in warning["message"]


@pytest.mark.parametrize(("asked", "measured"), [("auto", True), ("never", False)])
def test_the_border_is_measured_unless_images_are_never_inverted(
    work: Work, write_images: WriteImages, asked: str, measured: bool
) -> None:
    root = write_images("train")
    for name, shade in (("left", 5), ("right", 9)):  # dark to the border, all of them
        for file in (root / "shapes" / "train" / name).iterdir():
            pixels = np.full((12, 12), shade, np.uint8)
            pixels[4:8, 4:8] = 250
            Image.fromarray(pixels).save(file)

    work.run(invert=asked, epochs=1)

    border = work.manifest.preprocessing.invert_from_border
    assert border == (pytest.approx(7 / 255, abs=1e-3) if measured else None)


@pytest.mark.parametrize("mode", ["resident", "stream"])
def test_negatives_are_judged_as_they_are_predicted(
    work: Work, write_images: WriteImages, mode: str
) -> None:
    root = write_images("train", "val", "test", count=12)
    for part in ("train", "val", "test"):
        for name, across in (("left", 2), ("right", 7)):
            for number, file in enumerate((root / "shapes" / part / name).iterdir()):
                pixels = np.full((12, 12), 4 + number, np.uint8)
                pixels[3:9, across : across + 3] = 250
                turned = part != "train" and number % 3 == 0  # ink on paper
                Image.fromarray(255 - pixels if turned else pixels).save(file)

    assert work.run(epochs=8, data_loader={"mode": mode}).state == "succeeded"

    said = report.read(work.best)
    assert said is not None
    assert said.parity is not None
    assert (said.parity.passed, said.parity.different) == (True, 0)
    files = sorted((root / "shapes" / "test").rglob("*.png"))
    answers = Classifier.load(work.best).classify([file.read_bytes() for file in files])
    found = [answer for answer in answers if isinstance(answer, Classified)]
    assert sum("inverted" in answer.warnings for answer in found) == 8
    right = [
        work.manifest.classes[int(answer.probabilities.argmax())] == file.parent.name
        for file, answer in zip(files, found, strict=True)
    ]
    assert sum(right) / len(files) == said.accuracy == work.metrics["test_accuracy"] == 1.0


def test_colour_is_trained_in_colour(work: Work, write_images: WriteImages) -> None:
    write_images("train", "test", mode="RGB")

    outcome = work.run(channels=3)

    assert outcome.state == "succeeded"
    assert work.manifest.preprocessing.channels == 3
    state = checkpoints.read_state(work.best, work.manifest)
    assert state["model.0.weight"].shape[1] == 3


def test_a_checkpoint_predicts_with_the_eval_list(work: Work, write_images: WriteImages) -> None:
    root = write_images("train", "test")
    train = [
        {"type": "Resize", "size": 18},
        {"type": "RandomCrop", "size": 14},
        {"type": "Normalize", "mean": [0.4], "std": [0.3]},
        {"type": "RandomErasing", "p": 0.1},
        {"type": "MixUp", "alpha": 0.2},
    ]

    outcome = work.run(transforms={"train": train}, epochs=4)

    assert outcome.state == "succeeded"
    preprocessing = work.manifest.preprocessing
    assert [one.type for one in preprocessing.transforms] == ["Resize", "CenterCrop"]
    assert (preprocessing.height, preprocessing.input_size) == (12, (14, 14))
    assert preprocessing.normalize == Normalize(mean=[0.4], std=[0.3])
    files = sorted((root / "shapes" / "test").rglob("*.png"))
    results = Classifier.load(work.best).classify([file.read_bytes() for file in files])
    right = [
        work.manifest.classes[int(result.probabilities.argmax())] == file.parent.name
        for file, result in zip(files, results, strict=True)
        if isinstance(result, Classified)
    ]
    assert sum(right) / len(files) == work.metrics["test_accuracy"]


def test_an_own_validation_part_chooses(work: Work, write_images: WriteImages) -> None:
    write_images("train", "val", "test", count=10)

    outcome = work.run(epochs=1)

    assert outcome.state == "succeeded"
    assert work.metrics["val_count"] == 20


def test_without_a_test_part_it_is_judged_on_the_validation_images(
    work: Work, write_images: WriteImages
) -> None:
    write_images("train")

    outcome = work.run(epochs=1)

    assert outcome.state == "succeeded"
    assert (work.metrics["test_loss"], work.metrics["test_accuracy"]) == (None, None)
    said = report.read(work.best)
    assert said is not None
    assert (said.judged_on, said.count, said.accuracy) == (
        "validation",
        6,
        work.metrics["val_accuracy"],
    )


def test_choosing_on_the_test_part_is_warned_of(work: Work, write_images: WriteImages) -> None:
    write_images("train", "test")

    work.run(validation="test")

    assert "chosen_on_test" in work.warnings
    assert work.metrics["val_count"] == 32
    assert work.metrics["test_accuracy"] == work.metrics["val_accuracy"]
    for row in work.epochs():
        assert (row.test_loss, row.test_accuracy) == (row.val_loss, row.val_accuracy)


def test_a_small_validation_part_is_warned_of(work: Work, write_images: WriteImages) -> None:
    write_images("train")

    work.run(epochs=1)

    assert list(work.warnings) == ["validation_tiny"]
    assert (
        "With 6 validation images each one moves the accuracy by 16.7 points"
        in (work.warnings["validation_tiny"])
    )


@pytest.mark.parametrize(
    ("broken", "end"), [(2, "b0.png, train/left/b1.png."), (7, "b4.png and 2 more.")]
)
def test_unreadable_images_are_left_out_and_named(
    work: Work, write_images: WriteImages, broken: int, end: str
) -> None:
    root = write_images("train")
    for number in range(broken):
        (root / "shapes" / "train" / "left" / f"b{number}.png").write_bytes(b"no image")

    outcome = work.run(epochs=1)

    assert outcome.state == "succeeded"
    assert work.warnings["unreadable_images"].endswith(end)


def test_damaged_decoded_images_are_never_trained_on(work: Work, write_images: WriteImages) -> None:
    write_images("train")
    assert work.run(epochs=1).state == "succeeded"
    assert "cache_damaged" not in work.warnings
    [file] = (work.home / "cache").glob("*/train.images.npy")
    good = file.read_bytes()
    file.unlink()  # another job may have it mapped
    file.write_bytes(good[:-100] + bytes(100))

    assert work.run(epochs=1).state == "succeeded"

    assert "train.images.npy is not what was written" in work.warnings["cache_damaged"]
    assert file.read_bytes() == good


def test_checkpoints_are_as_far_apart_as_asked_and_the_last_is_always_saved(
    work: Work, write_images: WriteImages
) -> None:
    write_images("train")

    work.run(epochs=5, checkpoints={"every_epochs": 2, "keep": "all"})

    assert work.saved() == [2, 4, 5]


def test_bf16_is_trained_and_noted(work: Work, write_images: WriteImages) -> None:
    write_images("train")

    outcome = work.run(precision="bf16", epochs=1)

    assert outcome.state == "succeeded"
    assert work.manifest.made_with["precision"] == "bf16"


def test_a_network_that_cannot_be_compiled_is_trained_as_it_is(
    work: Work, write_images: WriteImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images("train")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # what the job sets is gone after it

    with inductor.patch({"cpp.cxx": (None, "/no/compiler"), "compile_threads": 2}):
        outcome = work.run(epochs=1, compile=True)

    assert outcome.state == "succeeded"
    assert "No working C++ compiler" in work.warnings["compile_unavailable"]


def test_the_same_seed_gives_the_same_run(work: Work, write_images: WriteImages) -> None:
    write_images("train", "test")

    def numbers(seed: int) -> list[tuple[float | None, ...]]:
        work.run(seed=seed)
        return [(row.train_loss, row.val_loss) for row in work.epochs()]

    assert numbers(1) == numbers(1)
    assert numbers(1) != numbers(2)


def test_a_cancel_ends_it_and_its_checkpoints_stay(
    work: Work, write_images: WriteImages, meanwhile: Callable[..., None]
) -> None:
    write_images("train")
    work.claim(work.resolve(**FOREVER))

    def cancel() -> None:
        with work.sessions.begin() as session:
            jobs.cancel(session, work.fence.job_id)

    meanwhile(work.saved, cancel)
    outcome = work.train()

    assert outcome == Outcome("cancelled")
    assert work.job.state == "cancelling"  # its supervisor says that it is over
    assert work.saved()
    assert (work.best / "model.safetensors").is_file()


def test_a_cancel_before_the_start_ends_it(work: Work, write_images: WriteImages) -> None:
    write_images("train")
    work.claim(work.resolve())
    with work.sessions.begin() as session:
        jobs.cancel(session, work.fence.job_id)

    assert work.train() == Outcome("cancelled")
    assert work.epochs() == []


@pytest.mark.parametrize("phase", ["before", "during"])
def test_a_planned_stop_releases_the_job(
    work: Work, write_images: WriteImages, meanwhile: Callable[..., None], phase: str
) -> None:
    write_images("train")
    work.claim(work.resolve(**FOREVER))
    if phase == "before":
        work.stop.set("release")
    else:
        meanwhile(work.epochs, lambda: work.stop.set("release"))

    assert work.train() == Outcome("released")
    assert bool(work.epochs()) == (phase == "during")


def test_a_lost_claim_ends_it(
    work: Work, write_images: WriteImages, meanwhile: Callable[..., None]
) -> None:
    write_images("train")
    work.claim(work.resolve(**FOREVER))

    def lose() -> None:
        with work.sessions.begin() as session:
            assert jobs.lose(session, work.fence, reason="of a crash")

    meanwhile(work.saved, lose)

    assert work.train() == Outcome("released")
    with work.sessions() as session:
        known = [row.id for row in rows.of_job(session, work.fence.job_id)]
    assert sorted(path.name for path in (work.home / "checkpoints").iterdir()) == sorted(known)


class StopOnce(Stop):
    """A planned stop at the first step after something has become true."""

    def __init__(self, true: Callable[[], Any]) -> None:
        super().__init__()
        self._true = true

    def __call__(self) -> bool:
        if self._true():
            self.set("release")
        return super().__call__()


VARIED: dict[str, Any] = {
    "epochs": 6,
    "optimizer": {"name": "Adam", "lr": 0.003},
    "scheduler": {"name": "OneCycleLR", "max_lr": 0.003},
    "transforms": {"train": [{"type": "RandomCrop", "padding": 1}]},
    "checkpoints": {"keep": "all"},
}


CIFAR10_NET = {
    "layers": [
        {"type": "Conv2d", "out_channels": 32, "kernel_size": 5, "padding": 2},
        {"type": "MaxPool2d", "kernel_size": 2},
        {"type": "Conv2d", "out_channels": 32, "kernel_size": 5, "padding": 2},
        {"type": "MaxPool2d", "kernel_size": 2},
        {"type": "Conv2d", "out_channels": 64, "kernel_size": 5, "padding": 2},
        {"type": "MaxPool2d", "kernel_size": 2},
        {"type": "Flatten"},
        {"type": "Linear", "out_features": 64},
        {"type": "ReLU"},
        {"type": "Linear"},
    ]
}
NORMALISED = {
    "layers": [
        {"type": "Conv2d", "out_channels": 4, "kernel_size": 3, "bias": False},
        {"type": "BatchNorm2d"},
        {"type": "ReLU", "inplace": True},
        {
            "type": "Residual",
            "layers": [
                {"type": "Conv2d", "out_channels": 4, "kernel_size": [3, 3], "padding": "same"},
                {"type": "BatchNorm2d", "momentum": None},
                {"type": "Dropout", "p": 0.1},
            ],
        },
        {"type": "AdaptiveAvgPool2d", "output_size": [1, 2]},
        {"type": "Flatten"},
        {"type": "Linear"},
    ]
}


def test_a_list_of_layers_trains_as_the_named_network_to_the_bit(
    work: Work, write_images: WriteImages
) -> None:
    write_images("train", "test", mode="RGB")

    def numbers(architecture: Any) -> tuple[Any, ...]:
        work.run(architecture=architecture, epochs=3, image_size=16, seed=7)
        return work.numbers(), work.metrics["test_loss"]

    assert numbers(CIFAR10_NET) == numbers("cifar10_net")
    assert work.saved() == [1, 2, 3]


def test_a_network_of_ones_own_is_saved_with_its_layers_and_classifies(
    work: Work, write_images: WriteImages
) -> None:
    write_images("train", "test", count=20)

    work.run(architecture=NORMALISED, epochs=4)

    manifest = work.manifest
    assert manifest.architecture == NORMALISED
    assert "own on cpu in fp32" in work.lines()
    assert work.job.recipe is not None
    assert work.job.recipe["architecture"] == NORMALISED
    classifier = Classifier.load(work.best)
    files = sorted((work.root / "shapes" / "test").rglob("*.png"))
    answers = classifier.classify([file.read_bytes() for file in files])
    labels = [manifest.classes.index(file.parent.name) for file in files]
    chances = [answer.probabilities for answer in answers if isinstance(answer, Classified)]
    losses = [-np.log(chance[label]) for chance, label in zip(chances, labels, strict=True)]
    assert work.metrics["test_loss"] == pytest.approx(np.mean(losses), abs=1e-5)


def test_one_image_is_not_enough_for_batch_norm(work: Work, write_images: WriteImages) -> None:
    write_images("train", "val", count=2)

    outcome = work.run(architecture=NORMALISED, batch_size=1)

    assert outcome.error is not None
    assert outcome.error["code"] == "invalid_request"
    assert outcome.error["message"].startswith("A network with BatchNorm is trained on two images")


def interrupt(work: Work, *, after: int) -> None:
    """Trains that many epochs; then the job is claimed anew."""
    work.stop = StopOnce(lambda: len(work.epochs()) == after)
    assert work.train() == Outcome("released")
    assert list(work.numbers()) == list(range(1, after + 1))
    work.claim_again()


@pytest.mark.parametrize("architecture", ["mnist_net", NORMALISED], ids=["named", "own"])
def test_an_interrupted_job_goes_on_as_if_nothing_had_been(
    work: Work, write_images: WriteImages, architecture: Any
) -> None:
    write_images("train", "test")
    asked = VARIED | {"architecture": architecture}
    work.run(**asked)
    whole, tested = work.numbers(), work.metrics["test_loss"]

    work.claim(work.resolve(**asked))
    interrupt(work, after=3)
    outcome = work.train()

    assert outcome == Outcome("succeeded", stop_reason="completed")
    again = work.numbers(attempt=2)
    # Epochs this short are not worth a state each.
    assert list(again) in ([2, 3, 4, 5, 6], [3, 4, 5, 6], [4, 5, 6])
    assert work.numbers() == {epoch: whole[epoch] for epoch in (1, 2, 3)}
    assert again == {epoch: whole[epoch] for epoch in again}
    assert work.saved() == [1, 2, 3, 4, 5, 6]  # each once
    assert work.metrics["test_loss"] == tested
    assert f"goes on after epoch {min(again) - 1}" in work.lines()


def no_state(file: Path) -> None:
    shutil.rmtree(file.parent)


def half_a_state(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize("damage", [no_state, half_a_state])
def test_without_its_state_a_job_goes_on_from_its_newest_checkpoint(
    work: Work, write_images: WriteImages, damage: Callable[[Path], None]
) -> None:
    write_images("train")
    work.run(**VARIED)
    whole = work.numbers()

    work.claim(work.resolve(**VARIED))
    interrupt(work, after=3)
    damage(work.home / "runs" / work.fence.job_id / "state" / "training.safetensors")
    outcome = work.train()

    assert outcome == Outcome("succeeded", stop_reason="completed")
    again = work.numbers(attempt=2)
    assert "goes on after epoch 3 with a fresh optimizer" in work.lines()
    assert [again[epoch][-1] for epoch in (4, 5, 6)] == [whole[epoch][-1] for epoch in (4, 5, 6)]
    assert list(again) == [4, 5, 6]
    assert again[4] != whole[4]
    assert again[4][0] < whole[2][0]  # from there, not from the start
    assert work.saved() == [1, 2, 3, 4, 5, 6]


def test_a_job_that_was_interrupted_before_there_was_anything_begins_again(
    work: Work, write_images: WriteImages
) -> None:
    write_images("train")
    work.run(**VARIED)
    whole = work.numbers()

    work.claim(work.resolve(**VARIED))
    asked = iter(range(1000))
    work.stop = StopOnce(lambda: next(asked) == 3)  # in the first epoch, which has four steps
    assert work.train() == Outcome("released")
    work.claim_again()
    outcome = work.train()

    assert outcome.state == "succeeded"
    assert work.numbers() == {}
    assert work.numbers(attempt=2) == whole


def test_a_job_that_was_interrupted_after_its_last_epoch_is_judged(
    work: Work, write_images: WriteImages
) -> None:
    write_images("train", "test")
    work.claim(work.resolve(epochs=2))
    interrupt(work, after=2)
    assert "test_loss" not in work.metrics or work.metrics["test_loss"] is None

    outcome = work.train()

    assert outcome == Outcome("succeeded", stop_reason="completed")
    assert work.numbers(attempt=2) == {}
    assert work.metrics["test_loss"] is not None
    assert work.metrics["val_count"] == 6  # from before


def test_a_job_that_has_ended_goes_on_for_more_epochs(
    work: Work, write_images: WriteImages
) -> None:
    write_images("train", "test")
    work.run(**{**VARIED, "epochs": 5})
    longer = work.numbers()

    work.run(**{**VARIED, "epochs": 3})
    work.resume(epochs=5)
    outcome = work.train()

    assert outcome == Outcome("succeeded", stop_reason="completed")
    more = work.numbers(attempt=2)
    assert list(more) == [4, 5]
    # In the schedule of a run of five.
    assert [row[-1] for row in more.values()] == [longer[4][-1], longer[5][-1]]
    assert work.saved() == [1, 2, 3, 4, 5]
    assert "goes on after epoch 3" in work.lines()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda left: shutil.copytree(left, left.with_name("up")), "'up' has come."),
        (lambda left: left.rename(left.with_name("up")), "'up' has come, 'left' has gone."),
    ],
    ids=["one more", "as many"],
)
def test_a_job_does_not_go_on_with_other_classes(
    work: Work, write_images: WriteImages, change: Callable[[Path], object], told: str
) -> None:
    root = write_images("train")
    work.run()
    work.resume(epochs=4)
    change(root / "shapes" / "train" / "left")

    outcome = work.train()

    assert outcome.error is not None
    assert outcome.error["code"] == "dataset_changed"
    assert outcome.error["message"].endswith(told)
    assert work.numbers(attempt=2) == {}


def test_a_job_that_is_to_finish_early_ends_after_its_epoch_like_any_other(
    work: Work, write_images: WriteImages, meanwhile: Callable[..., None]
) -> None:
    write_images("train", "test")
    work.claim(work.resolve(**FOREVER, checkpoints={"every_epochs": 100_000}))

    def finish() -> None:
        with work.sessions.begin() as session:
            jobs.finish_early(session, work.fence.job_id)

    meanwhile(work.epochs, finish)
    outcome = work.train()

    assert outcome == Outcome("succeeded", stop_reason="finished_early")
    last = max(work.numbers())
    assert work.saved() == [last]
    assert work.metrics["test_accuracy"] is not None
    assert work.job.progress is not None
    assert (work.job.progress["phase"], work.job.progress["epoch"]) == ("evaluating", last)

    work.resume(epochs=last + 1)
    assert work.train() == Outcome("succeeded", stop_reason="completed")
    assert list(work.numbers(attempt=2)) == [last + 1]


# Never better by so much: over after two epochs.
STOPPING: dict[str, Any] = {
    "epochs": 9,
    "early_stopping": {"patience": 1, "min_delta": 100},
    "checkpoints": {"every_epochs": 5},
}


def test_a_job_that_gets_no_better_ends_like_any_other(
    work: Work, write_images: WriteImages
) -> None:
    write_images("train", "test")

    outcome = work.run(**STOPPING)

    assert outcome == Outcome("succeeded", stop_reason="early_stopping")
    assert list(work.numbers()) == [1, 2]
    assert work.saved() == [2]
    assert work.metrics["test_accuracy"] is not None

    # Whoever resumes it wants it to go on, with all its patience.
    work.resume()
    assert work.train() == Outcome("succeeded", stop_reason="early_stopping")
    assert list(work.numbers(attempt=2)) == [3, 4]


def test_a_job_that_was_over_and_interrupted_before_it_was_judged_is_judged(
    work: Work, write_images: WriteImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images("train", "test")
    with monkeypatch.context() as broken:
        broken.setattr(run_train.state, "settle", crash)
        assert work.run(**STOPPING).state == "failed"
    work.claim_again()

    outcome = work.train()

    assert outcome == Outcome("succeeded", stop_reason="early_stopping")
    assert list(work.numbers(attempt=2)) == []
    assert work.metrics["test_accuracy"] is not None


def crash(*_: Any) -> None:
    raise RuntimeError("interrupted")


def test_a_job_whose_time_is_up_has_a_checkpoint_and_is_judged(
    work: Work, write_images: WriteImages
) -> None:
    write_images("train", "test")

    outcome = work.run(**FOREVER, max_seconds=0.2, checkpoints={"every_epochs": 100_000})

    assert outcome == Outcome("succeeded", stop_reason="max_seconds")
    assert work.saved() == [max(work.numbers())]
    assert work.metrics["test_accuracy"] is not None
    assert work.job.progress is not None
    assert (work.job.progress["eta_seconds"] or 0) <= 0.2


def test_a_cosine_of_another_length_is_warned_of(work: Work, write_images: WriteImages) -> None:
    write_images("train")

    work.run(scheduler={"name": "CosineAnnealingLR", "T_max": 1})

    assert work.warnings["schedule_length"].endswith("rises again before the end.")


def test_a_flat_folder_is_split_in_three(work: Work, write_images: WriteImages) -> None:
    write_images("train")

    work.run(validation=0.25, test=0.25, class_weights="balanced", loss={"label_smoothing": 0.1})

    assert work.metrics["val_count"] == 8
    assert work.metrics["test_accuracy"] is not None


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_a_precision_that_is_not_here_is_a_problem(
    work: Work, write_images: WriteImages, precision: str
) -> None:
    write_images("train")

    outcome = work.run(precision=precision)

    assert outcome.error is not None
    assert outcome.error["code"] == "device_unavailable"


def test_work_that_hangs_is_noticed(
    work: Work, write_images: WriteImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images("train")
    monkeypatch.setattr(arrays, "is_local", lambda *_: False)
    noticed = threading.Event()
    take = work.held.take

    def hang() -> str:
        assert noticed.wait(30)
        return take()

    monkeypatch.setattr(work.held, "take", hang)
    work.claim(work.resolve(epochs=1))

    outcome = work.train(on_stuck=noticed.set, stuck_seconds=0.2)

    assert noticed.is_set()
    assert outcome.state == "succeeded"


def test_those_who_listen_hear_what_the_log_says(work: Work, write_images: WriteImages) -> None:
    write_images("train", "test")

    work.run()

    said = [line.partition(":")[0] for line in work.lines()]
    assert said == [
        "mnist_net on cpu in fp32",
        "epoch 1/2",
        "epoch 2/2",
        f"test loss {work.metrics['test_loss']:.4f} accuracy {work.metrics['test_accuracy']:.4f}",
    ]


def test_a_data_set_that_is_gone_is_a_problem(work: Work, write_images: WriteImages) -> None:
    root = write_images("train")
    work.claim(work.resolve())
    shutil.rmtree(root / "shapes")

    outcome = work.train()

    assert (outcome.state, outcome.exception) == ("failed", "Problem")
    assert outcome.error is not None
    assert outcome.error["code"] == "dataset_unknown"
    assert "shapes" in outcome.error["message"]


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ({"image_size": 8}, "network_misfit", "Layer 3 of mnist_net"),
        ({"device": "cuda"}, "device_unavailable", "wants cuda"),
        (
            # There seem to be ten images, of which nine are trained on.
            {"batch_size": 9, "validation": 0.1, "data_loader": {"drop_last": True}},
            "invalid_request",
            "drop_last leaves no batch of 9: there are 7 training images",
        ),
    ],
)
def test_what_only_the_work_finds_out_is_a_problem(
    work: Work, write_images: WriteImages, given: dict[str, Any], code: str, message: str
) -> None:
    root = write_images("train", count=4)
    for name in ("left", "right"):
        (root / "shapes" / "train" / name / "broken.png").write_bytes(b"no image")

    outcome = work.run(**given)

    assert outcome.state == "failed"
    assert outcome.error is not None
    assert outcome.error["code"] == code
    assert message in outcome.error["message"]
    assert outcome.error["hint"]


def test_an_error_of_pytorch_is_told_and_its_traceback_logged(
    work: Work, write_images: WriteImages, caplog: pytest.LogCaptureFixture
) -> None:
    write_images("train")
    # `resolve` would have refused it.
    wrong = {"optimizer": {"name": "Adam", "fused": True, "foreach": True}}
    work.claim(work.resolve().model_copy(update=wrong))

    with caplog.at_level(logging.ERROR):
        outcome = work.train()

    assert (outcome.state, outcome.exception) == ("failed", "RuntimeError")
    assert outcome.error is not None
    assert outcome.error["code"] == "training_failed"
    assert outcome.error["message"].startswith("RuntimeError: `fused` and `foreach`")
    assert "Traceback" in caplog.text


def allocate() -> None:
    torch.empty(10**15)


def fail(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("happens", "code"),
    [
        (fail(OSError(errno.ENOSPC, "No space left on device")), "disk_full"),
        (fail(OSError(errno.EDQUOT, "Disk quota exceeded")), "disk_full"),
        (fail(OSError(errno.EACCES, "Permission denied")), "training_failed"),
        (fail(MemoryError()), "out_of_memory"),
        (fail(torch.OutOfMemoryError("CUDA out of memory")), "out_of_memory"),
        (allocate, "out_of_memory"),
    ],
)
def test_a_full_disk_and_a_full_memory_are_told_as_such(
    work: Work,
    write_images: WriteImages,
    monkeypatch: pytest.MonkeyPatch,
    happens: Callable[[], None],
    code: str,
) -> None:
    write_images("train")
    monkeypatch.setattr(checkpoints, "save", lambda *_: happens())

    outcome = work.run()

    assert outcome.state == "failed"
    assert outcome.error is not None
    assert outcome.error["code"] == code


def test_a_batch_too_large_for_the_memory_ends_no_job(
    work: Work, write_images: WriteImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images("train")
    plain = nn.Linear.forward

    def tight(self: nn.Linear, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return plain(self, images)

    monkeypatch.setattr(nn.Linear, "forward", tight)
    outcome = work.run()

    assert outcome.state == "succeeded"
    assert len(work.epochs()) == 2
    assert work.warnings["batch_split"].startswith("8 images at once do not fit")
    told = work.lines()
    assert "CUDA out of memory. Tried to allocate 20.00 MiB." in told
    assert any(line.startswith("8 images at once do not fit") for line in told)


FLIPS = {"train": [{"type": "RandomHorizontalFlip"}]}


@pytest.mark.usefixtures("undone")
def test_a_deterministic_job_comes_to_the_same_bits_again(
    work: Work, write_images: WriteImages
) -> None:
    write_images("train")
    found = []
    for _ in range(2):
        assert work.run(deterministic=True, transforms=FLIPS).state == "succeeded"
        found.append(checkpoints.read_state(work.best, work.manifest))

    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    # Other threads may add up in another order: the manifest says how many there were.
    assert work.manifest.made_with["threads"] == str(torch.get_num_threads())


@pytest.mark.usefixtures("undone")
def test_a_deterministic_job_that_is_resumed_is_still_one(
    work: Work, write_images: WriteImages
) -> None:
    write_images("train")
    assert work.run(deterministic=True, transforms=FLIPS, epochs=4).state == "succeeded"
    whole = work.epochs()
    assert work.run(deterministic=True, transforms=FLIPS).state == "succeeded"
    torch.use_deterministic_algorithms(False)
    work.resume(epochs=4)

    assert work.train().state == "succeeded"

    assert torch.are_deterministic_algorithms_enabled()
    assert [one.train_loss for one in work.epochs()] == [one.train_loss for one in whole]


@pytest.mark.usefixtures("undone")
def test_what_cannot_be_repeated_to_the_bit_is_told(
    work: Work, write_images: WriteImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images("train")

    def unrepeatable(*_: object) -> None:
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))

    monkeypatch.setattr(checkpoints, "save", unrepeatable)
    outcome = work.run(deterministic=True)

    assert outcome.error is not None
    assert outcome.error["code"] == "deterministic_unavailable"
    assert outcome.error["message"].startswith("put_ has no form")
    assert "deterministic" in outcome.error["hint"]


def test_while_it_downloads_others_have_the_device(
    work: Work, write_images: WriteImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images("train")
    monkeypatch.setattr(arrays, "is_local", lambda *_: False)
    seen: list[str | None] = []
    take = work.held.take

    def watch() -> str:
        seen.append(work.job.device)
        return take()

    monkeypatch.setattr(work.held, "take", watch)
    outcome = work.run(epochs=1)

    assert outcome.state == "succeeded"
    assert work.held.calls == ["give up", "take"]
    assert (seen, work.job.device) == ([None], "cpu")


def test_without_internet_the_missing_files_are_named(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # discard: nobody listens
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    outcome = work.run(dataset="mnist", image_size=28)

    assert outcome.state == "failed"
    assert outcome.error is not None
    assert outcome.error["code"] == "dataset_unavailable"
    assert "train-images-idx3-ubyte.gz" in outcome.error["hint"]
    assert work.held.calls == ["give up"]


@pytest.fixture
def squeezenet(work: Work, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """What is published for squeezenet1_1, which lies in the home: a stand-in."""
    torch.manual_seed(1)
    state = zoo.build("squeezenet1_1", channels=3, size=(32, 32), classes=1000).state_dict()
    folder = work.home / "weights"
    folder.mkdir()
    torch.save(state, folder / "file")
    checksum = hashlib.sha256((folder / "file").read_bytes()).hexdigest()[:8]
    path = (folder / "file").rename(folder / f"squeezenet1_1-{checksum}.pth")
    url = f"http://127.0.0.1:9/{path.name}"
    third = (1 / 3, 1 / 3, 1 / 3)
    told = Published(path.name, url, checksum, path.stat().st_size, 32, third, third)
    monkeypatch.setenv("TORCH_HOME", str(work.home / "torch"))
    monkeypatch.setattr(pretrained, "published", lambda _: told)
    return dict(state)


SQUEEZENET = {
    "architecture": "SqueezeNet1-1",
    "pretrained": True,
    "image_size": 32,
    "channels": 3,
    "normalize": None,
    "optimizer": {"name": "Adam", "lr": 0.001},
}


def test_a_pretrained_network_learns_with_its_head_alone(
    work: Work, write_images: WriteImages, squeezenet: dict[str, torch.Tensor]
) -> None:
    write_images("train", "test")

    outcome = work.run(**SQUEEZENET, freeze_backbone=True, head_lr=0.01, epochs=2)

    assert outcome == Outcome("succeeded", stop_reason="completed")
    ours = checkpoints.read_state(work.best, work.manifest)
    assert torch.equal(ours["features.3.squeeze.weight"], squeezenet["features.3.squeeze.weight"])
    assert ours["classifier.1.weight"].shape[0] == 2
    assert work.epochs()[0].lr == pytest.approx(0.01)
    assert "weights_unavailable" not in work.warnings
    classified = Classifier.load(work.best).classify([half("left", side=40)])
    assert isinstance(classified[0], Classified)


@pytest.mark.parametrize("is_there", [True, False])
def test_fine_tune_learns_images_of_ones_own_with_weights_and_without(
    work: Work, write_images: WriteImages, squeezenet: dict[str, torch.Tensor], is_there: bool
) -> None:
    write_images("train", mode="RGB")
    small = {"architecture": "squeezenet1_1", "image_size": 32, "batch_size": 8, "epochs": 1}
    asked = {"recipe": "fine-tune", "dataset": "shapes", "precision": "fp32", "seed": 0, **small}
    if not is_there:
        shutil.rmtree(work.home / "weights")
        asked["pretrained"] = "auto"
    facts = catalog.facts("shapes", work.root)
    work.claim(recipes.resolve(SubmittedRecipe.model_validate(asked), facts))

    outcome = work.train()

    assert outcome == Outcome("succeeded", stop_reason="completed")
    assert ("weights_unavailable" in work.warnings) is not is_there
    ours = checkpoints.read_state(work.best, work.manifest)
    assert work.manifest.classes == ["left", "right"]
    moved = ours["features.3.squeeze.weight"] - squeezenet["features.3.squeeze.weight"]
    if is_there:  # AdamW moves a weight by its rate in each step, at most
        assert 0 < moved.abs().max() < 4 * 3e-4
    classified = Classifier.load(work.best).classify([half("left", side=40, mode="RGB")])
    assert isinstance(classified[0], Classified)


def test_an_interrupted_pretrained_training_goes_on_to_the_bit(
    work: Work, write_images: WriteImages, squeezenet: dict[str, torch.Tensor]
) -> None:
    write_images("train")
    assert work.run(**SQUEEZENET, head_lr=0.01, epochs=3).state == "succeeded"
    whole = work.numbers()
    work.run(**SQUEEZENET, head_lr=0.01, epochs=1)
    shutil.rmtree(work.home / "weights")  # they have done their part
    work.resume(epochs=3)

    assert work.train().state == "succeeded"

    assert {**work.numbers(1), **work.numbers(2)} == whole


STANDING_STILL = {"optimizer": {"name": "SGD", "lr": 0.0}, "epochs": 1}


def test_a_network_starts_from_a_checkpoint(work: Work, write_images: WriteImages) -> None:
    write_images("train", "test")
    assert work.run(epochs=3).state == "succeeded"
    first, loss = work.best, work.epochs()[-1].val_loss

    assert work.run(init_from=first.name, **STANDING_STILL).state == "succeeded"

    assert work.manifest.recipe["init_from"] == first.name
    assert work.epochs()[-1].val_loss == loss
    assert _weights(work.best).keys() == _weights(first).keys()
    assert all(torch.equal(one, _weights(first)[key]) for key, one in _weights(work.best).items())
    assert f"starts from {first.name}" in work.lines()
    assert "new_head" not in work.warnings


@pytest.mark.parametrize("given", [{}, {"freeze_backbone": True, "epochs": 2}])
def test_for_other_classes_the_last_layer_is_a_new_one(
    work: Work, write_images: WriteImages, given: dict[str, Any]
) -> None:
    write_images("train", "test")
    work.run(architecture=NORMALISED)
    first = _weights(work.best)
    before = work.best.name
    for part in ("train", "test"):
        (work.root / "shapes" / part / "left").rename(work.root / "shapes" / part / "links")
    moving = {"optimizer": {"name": "SGD", "lr": 0.1}} if given else {}

    outcome = work.run(
        architecture=NORMALISED, init_from=before, **{**STANDING_STILL, **given, **moving}
    )

    assert outcome.state == "succeeded"
    changed = {key for key, one in _weights(work.best).items() if not torch.equal(one, first[key])}
    assert {key.rpartition(".")[0] for key in changed if "batches_tracked" not in key} <= {
        *_statistics_of(first, standing=not given),
        "model.6",
    }
    assert "model.6.weight" in changed
    assert work.warnings["new_head"].endswith("begins anew: model.6.bias, model.6.weight.")


def _statistics_of(state: dict[str, torch.Tensor], *, standing: bool) -> set[str]:
    """BatchNorms that go on measuring, for they are not frozen."""
    return {key.rpartition(".")[0] for key in state if standing and "running" in key}


def test_a_checkpoint_that_is_gone_is_missed_at_the_beginning_only(
    work: Work, write_images: WriteImages
) -> None:
    write_images("train", "test")
    work.run()
    started = work.resolve(init_from=work.best.name, epochs=2)
    work.claim(started)
    work.stop.set("release")
    first = work.home / "checkpoints" / str(started.init_from)
    checkpoints.remove(first)
    work.stop = Stop()

    outcome = work.train()

    assert outcome.state == "failed"
    assert outcome.error is not None
    assert outcome.error["code"] == "checkpoint_not_found"


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoints.read_state(folder, checkpoints.read_manifest(folder))


def test_weights_that_cannot_be_had(
    work: Work, write_images: WriteImages, squeezenet: dict[str, torch.Tensor]
) -> None:
    write_images("train")
    shutil.rmtree(work.home / "weights")

    outcome = work.run(**SQUEEZENET, epochs=1)
    assert (outcome.state, outcome.error["code"]) == ("failed", "weights_unavailable")
    assert str(work.home / "weights") in outcome.error["hint"]

    outcome = work.run(**{**SQUEEZENET, "pretrained": "auto"}, epochs=1)
    assert outcome.state == "succeeded"
    assert work.warnings["weights_unavailable"].startswith("Trained from scratch.")
    assert work.held.calls == ["give up", "give up", "take"]


def test_a_job_that_diverges_is_told_and_goes_on(work: Work, write_images: WriteImages) -> None:
    write_images("train")

    outcome = work.run(optimizer={"name": "SGD", "lr": 1e6}, epochs=3)

    assert outcome.state == "succeeded"
    assert list(work.warnings) == ["validation_tiny", "loss_diverged"]
    with work.sessions() as session:
        told = events.since(session, 0, job_id=work.fence.job_id, limit=10_000)
    (advice,) = [one.data for one in told if one.type == "coach"]
    assert advice["recipe"]["optimizer"]["lr"] == 0.1
    submitted = SubmittedRecipe.model_validate(advice["recipe"])
    assert recipes.resolve(submitted, catalog.facts("shapes", work.root)).epochs == 3


def test_the_report_is_of_the_best_checkpoint_and_its_temperature_is_used(
    work: Work, write_images: WriteImages
) -> None:
    write_images("train", "test", count=60)

    work.run(epochs=3, checkpoints={"keep": "all"})

    folders = sorted((work.home / "checkpoints").iterdir())
    assert [folder for folder in folders if report.read(folder)] == [work.best]
    said = report.read(work.best)
    assert said is not None
    assert said.accuracy == work.metrics["test_accuracy"]
    assert (said.judged_on, said.count) == ("test", 120)
    assert said.dataset == work.manifest.dataset


def test_files_for_tensorboard_lie_in_the_run(work: Work, write_images: WriteImages) -> None:
    write_images("train")

    work.run(tensorboard={"histograms": True})

    assert len(list((work.home / "runs" / work.fence.job_id).glob("events.out.tfevents.*"))) == 1
    assert work.manifest.recipe["tensorboard"] == {"histograms": True}


def test_what_is_saved_is_proven_to_serve_as_it_was_trained(
    work: Work, write_images: WriteImages
) -> None:
    write_images("train", count=30)

    work.run(epochs=1)

    said = report.read(work.best)
    assert said is not None
    assert said.parity is not None
    assert (said.parity.passed, said.parity.count) == (True, work.metrics["val_count"])
    with work.sessions() as session:
        assert rows.get(session, work.best.name).parity is True
    assert "parity_failed" not in work.warnings


def test_what_serves_otherwise_is_said_and_the_job_succeeds(
    work: Work, write_images: WriteImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody saves a rule that inverts every image, and trains without it."""
    write_images("train", count=30)
    right = run_train._preprocessing

    def wrong(*args: Any) -> Any:
        return right(*args).model_copy(update={"invert_from_border": 1.0})

    monkeypatch.setattr(run_train, "_preprocessing", wrong)

    assert work.run(epochs=2).state == "succeeded"

    said = report.read(work.best)
    assert said is not None
    assert said.parity is not None
    assert not said.parity.passed
    assert work.best.name in work.warnings["parity_failed"]
    with work.sessions() as session:
        assert rows.get(session, work.best.name).parity is False
