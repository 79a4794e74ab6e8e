"""A checkpoint as it was saved, judged on images that it was not trained on."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import nn

from data_store import arrays
from data_store.parts import DataSet, Part
from models_store import architectures, checkpoints, report
from models_store.manifest import Manifest, Preprocessing
from models_store.recipe import Recipe
from models_store.report import Evaluation
from workers import training
from workers.judging import Judge
from workers.reporter import Stopped
from workers.split import split
from workers.training import Run

Make = Callable[..., Recipe]
CPU = torch.device("cpu")
LAYERS = {"layers": [{"type": "Flatten"}, {"type": "Linear", "out_features": 3}]}


def part(images: int, *, seed: int) -> Part:
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, 3, images)
    pixels = chance.integers(0, 90, (images, 4, 4, 1))
    pixels[np.arange(images), labels] += 30
    zeros = np.zeros(images, np.float32)
    return Part(pixels.astype(np.uint8), labels, zeros, zeros)


def data(**parts: int) -> DataSet:
    made = {name: part(images, seed=seed) for seed, (name, images) in enumerate(parts.items())}
    return DataSet("shapes", "v1", ("a", "b", "c"), made, ())


def judge(
    found: DataSet, recipe: Recipe, *, stopped: bool = False, datasets: Path = Path()
) -> Judge:
    run = Run(device=CPU, precision="fp32", normalize=None, stopped=lambda: stopped)
    return Judge(found, split(found, recipe, CPU), recipe, run, datasets)


def network() -> nn.Module:
    """Right about most of the images, and far too sure."""
    torch.manual_seed(0)
    net = untrained()
    with torch.no_grad():
        weight = net.get_parameter("model.1.weight")
        weight.normal_().mul_(6)
        for label in range(3):
            weight[label, 4 * label : 4 * label + 4] += 10
    return net


def untrained() -> nn.Module:
    plan = architectures.plan(LAYERS, channels=1, size=(4, 4), classes=3)
    return architectures.build(plan)


@pytest.fixture
def best(tmp_path: Path) -> Path:
    manifest = Manifest(
        id="ckpt_1",
        job_id="job_1",
        architecture=LAYERS,
        classes=["a", "b", "c"],
        preprocessing=Preprocessing(
            height=4, width=4, channels=1, trained_height=4, trained_width=4
        ),
        recipe={},
        dataset={"name": "shapes", "version": "v1"},
        epoch=1,
        metrics={},
        made_with={},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return checkpoints.save(tmp_path, network().state_dict(), manifest)


def read(best: Path) -> Evaluation:
    found = report.read(best)
    assert found is not None
    return found


def predictions(found: Part) -> np.ndarray:
    images = torch.from_numpy(found.images).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        return network()(images).argmax(1).numpy()


def test_the_test_part_is_judged_and_equals_scikit_learn(recipe: Make, best: Path) -> None:
    found = data(train=400, test=300)
    fresh = untrained()  # other weights than those saved

    measured = judge(found, recipe()).judge(fresh, best).measured

    said, test = read(best), found.parts["test"]
    predicted = predictions(test)
    accuracy = metrics.accuracy_score(test.labels, predicted)
    assert measured is not None
    assert measured.accuracy == said.accuracy == pytest.approx(accuracy, abs=1e-12)
    assert said.confusion == metrics.confusion_matrix(test.labels, predicted).tolist()
    expected = metrics.precision_recall_fscore_support(test.labels, predicted)
    ours = [[getattr(one, key) for one in said.classes] for key in ("precision", "recall", "f1")]
    np.testing.assert_allclose(ours, expected[:3], rtol=0, atol=1e-12)
    assert (said.judged_on, said.count, said.checkpoint_id) == ("test", 300, "ckpt_1")
    assert said.dataset == {"name": "shapes", "version": "v1"}
    assert said.calibration is not None
    assert said.calibration.fitted_count == 80
    assert said.calibration.temperature > 1.5
    assert said.calibration.ece_after < said.calibration.ece_before


def test_a_real_network_that_is_too_sure_is_calibrated_and_equals_scikit_learn(
    recipe: Make, tmp_path: Path, best: Path
) -> None:
    """A hundred digits learned by heart."""
    digits = arrays.load(
        "digits",
        root=tmp_path / "datasets",
        cache=tmp_path / "cache",
        size=(12, 12),
        channels=1,
        progress=lambda *_: None,
    )
    train = digits.parts["train"]
    few, rest = (
        replace(train, **{n: getattr(train, n)[rows] for n in ("images", "labels", "borders")})
        for rows in (slice(100), slice(100, 700))
    )
    found = replace(digits, parts={"train": few, "val": rest, "test": digits.parts["test"]})
    given = recipe(epochs=60, batch_size=16, lr=0.003).model_copy(update={"validation": "val"})
    judging = judge(found, given)
    torch.manual_seed(0)
    plan = architectures.plan("mnist_net", channels=1, size=(12, 12), classes=10)
    begun = training.begin(architectures.build(plan), given, judging.run, steps=60 * 7)
    for _ in training.fit(
        begun, judging.parts.train, judging.parts.validation, recipe=given, run=judging.run
    ):
        pass
    other = {"id": "ckpt_2", "architecture": "mnist_net"}
    manifest = checkpoints.read_manifest(best).model_copy(update=other)
    folder = checkpoints.save(tmp_path, begun.network.state_dict(), manifest)

    measured = judging.judge(begun.network, folder).measured

    said, test = read(folder), found.parts["test"]
    with torch.no_grad():
        images = torch.from_numpy(test.images).permute(0, 3, 1, 2).float() / 255
        predicted = begun.network(images).argmax(1).numpy()
    assert measured is not None
    assert said.accuracy == measured.accuracy == metrics.accuracy_score(test.labels, predicted)
    assert said.confusion == metrics.confusion_matrix(test.labels, predicted).tolist()
    expected = metrics.f1_score(test.labels, predicted, average="macro")
    assert said.averages.f1 == pytest.approx(expected, abs=1e-12)
    assert said.calibration is not None
    assert said.calibration.temperature > 1.1
    assert said.calibration.ece_after < said.calibration.ece_before


def test_mistakes_name_the_image_and_both_classes(recipe: Make, best: Path) -> None:
    found = data(train=400, test=300)

    judge(found, recipe()).judge(network(), best)

    test = found.parts["test"]
    predicted = predictions(test)
    mistakes = read(best).mistakes
    assert len(mistakes) == 20
    for one in mistakes:
        assert one.part == "test"
        assert one.label == "abc"[test.labels[one.index]]
        assert one.predicted == "abc"[predicted[one.index]] != one.label
    sure = [one.probability or 0.0 for one in mistakes]
    assert sure == sorted(sure, reverse=True)


@pytest.mark.parametrize(
    ("parts", "validation", "judged_on", "count", "part_name"),
    [
        ({"train": 400}, 0.25, "validation", 100, "train"),
        ({"train": 200, "val": 90}, "val", "validation", 90, "val"),
        ({"train": 200, "test": 90}, "test", "test", 90, "test"),
        ({"train": 200, "val": 90, "test": 80}, "val", "test", 80, "test"),
    ],
)
def test_what_was_judged_is_said(
    parts: dict[str, int],
    validation: float | str,
    judged_on: str,
    count: int,
    part_name: str,
    recipe: Make,
    best: Path,
) -> None:
    found = data(**parts)
    given = recipe().model_copy(update={"validation": validation})

    measured = judge(found, given).judge(network(), best).measured

    said = read(best)
    assert (said.judged_on, said.count) == (judged_on, count)
    assert {one.part for one in said.mistakes} == {part_name}
    labels = found.parts[part_name].labels
    assert all(one.label == "abc"[labels[one.index]] for one in said.mistakes)
    assert (measured is None) == ("test" not in parts or validation == "test")


def test_mistakes_are_counted_as_they_lie(
    recipe: Make, best: Path, write_images: Callable[..., Path]
) -> None:
    root = write_images("train", "test", count=40)
    (root / "shapes" / "test" / "left" / "00.png").write_bytes(b"no image")
    loaded = arrays.load(
        "shapes",
        root=root,
        cache=root.parent / "cache",
        size=(4, 4),
        channels=1,
        progress=lambda *_: None,
    )
    loaded = replace(loaded, classes=("a", "b", "c"))
    assert [one.file for one in loaded.skipped] == ["test/left/00.png"]

    judged = judge(loaded, recipe(), datasets=root).judge(network(), best)

    assert judged.parity is not None
    assert judged.parity == read(best).parity
    assert (judged.parity.passed, judged.parity.different) == (True, 0)
    mistakes = read(best).mistakes
    assert mistakes
    lying = arrays.labels("shapes", root, "test")
    for one in mistakes:
        assert one.index > 0
        assert one.label == "abc"[lying[one.index]]


@pytest.mark.parametrize("left", [0, 1])
def test_images_that_are_gone_by_then_fail_nothing(
    recipe: Make, best: Path, write_images: Callable[..., Path], left: int
) -> None:
    root = write_images("train", "test", count=40)
    (root / "shapes" / "test" / "left" / "00.png").write_bytes(b"no image")
    where = {"root": root, "cache": root.parent / "cache", "progress": lambda *_: None}
    loaded = arrays.load("shapes", size=(4, 4), channels=1, **where)
    loaded = replace(loaded, classes=("a", "b", "c"))
    judging = judge(loaded, recipe(), datasets=root)
    judging.judge(network(), best)
    expected = read(best).mistakes
    for folder in (root / "shapes").glob("*/*"):
        for file in sorted(folder.iterdir())[left:]:
            file.unlink()

    judged = judging.judge(network(), best)

    assert expected
    assert read(best).mistakes == expected
    assert judged.parity is None, "none of those that are left was chosen"


def test_a_network_without_finite_outputs_is_judged_without_calibration(
    recipe: Make, tmp_path: Path, best: Path
) -> None:
    state = {key: value * torch.nan for key, value in network().state_dict().items()}
    broken = checkpoints.read_manifest(best).model_copy(update={"id": "ckpt_2"})
    folder = checkpoints.save(tmp_path, state, broken)

    judge(data(train=100, test=50), recipe()).judge(network(), folder)

    said = read(folder)
    assert said.calibration is None
    assert {one.probability for one in said.mistakes} == {None}


def test_one_that_is_stopped_leaves_no_report(recipe: Make, best: Path) -> None:
    with pytest.raises(Stopped):
        judge(data(train=100, test=50), recipe(), stopped=True).judge(network(), best)

    assert report.read(best) is None
