"""Exports as a job: with images of the data set where it is, whole, and never of half a thing."""

import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy.orm import Session, sessionmaker

from data_store import arrays, catalog
from database import checkpoints as rows
from database import ids, jobs
from models_store import architectures, checkpoints, export, exports, report
from models_store.manifest import Manifest, Preprocessing
from problems import Problem
from workers import run_export, run_job
from workers.reporter import Stop
from workers.run_job import Outcome
from workers.task import Task

Sessions = sessionmaker[Session]


LINEAR = {"layers": [{"type": "Flatten"}, {"type": "Linear"}]}
"""Its export takes the least time."""


class NoDevice:
    def give_up(self) -> None:
        raise AssertionError("it has none")

    def take(self) -> tuple[str, ...]:
        raise AssertionError("it needs none")


class Work:
    """A checkpoint without a job, and exports of it."""

    def __init__(self, home: Path, url: str, sessions: Sessions, dataset: str | None) -> None:
        self.home, self.url, self.sessions = home, url, sessions
        self.stop = Stop()
        plan = architectures.plan(LINEAR, channels=1, size=(28, 28), classes=10)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            state = architectures.build(plan).state_dict()
        pre = Preprocessing(height=28, width=28, channels=1, trained_height=8, trained_width=8)
        manifest = Manifest(
            id=ids.new("ckpt"),
            job_id=None,
            architecture=LINEAR,
            classes=[str(digit) for digit in range(10)],
            preprocessing=pre,
            recipe={},
            dataset={"name": dataset, "version": None},
            epoch=0,
            metrics={},
            made_with={},
            created_at=datetime.now(UTC),
        )
        self.folder = checkpoints.save(home / "checkpoints", state, manifest)
        with sessions.begin() as session:
            rows.add_foreign(session, manifest.id, disk_bytes=1)

    def run(self, format_: str) -> Outcome:
        asked = {"checkpoint": self.folder.name, "format": format_}
        with self.sessions.begin() as session:
            jobs.enqueue(
                session, kind="export", dataset=None, recipe=None, request=asked, owner="lin"
            )
            job = jobs.claim(session, worker_id="w", host="h", device=None, kinds=("export",))
            assert job is not None
            fence = jobs.fence_of(job)
        folders = ("datasets", "cache", "checkpoints", "weights", "runs", "uploads")
        task = Task(
            fence=fence,
            kind="export",
            device="cpu",
            database=self.url,
            **{name: self.home / name for name in folders},
        )
        return run_job.run(task, NoDevice(), self.stop)

    def progress(self) -> Any:
        """Of the last export."""
        with self.sessions() as session:
            (job,) = jobs.find(session, kind="export", limit=1).items
            return job.progress

    def bytes_in_row(self) -> int:
        with self.sessions() as session:
            return rows.get(session, self.folder.name).disk_bytes


@pytest.fixture
def make(tmp_path: Path, url: str, sessions: Sessions) -> Callable[..., Work]:
    def make(dataset: str | None = "digits") -> Work:
        return Work(tmp_path, url, sessions, dataset)

    return make


def test_a_bundle_brings_its_onnx_along(make: Callable[..., Work]) -> None:
    work = make()
    assert work.run("bundle") == Outcome("succeeded", stop_reason="completed")
    assert work.progress() == {"phase": "exporting", "fraction": 1.0}

    onnx, bundle = exports.find(work.folder, "onnx"), exports.find(work.folder, "bundle")
    assert onnx is not None
    assert bundle is not None
    assert onnx.check == bundle.check
    assert (onnx.check.images, onnx.check.of) == (100, "dataset")
    assert onnx.check.largest_difference < 1e-5
    assert exports.path(work.folder, "onnx").stat().st_size == onnx.bytes
    assert work.bytes_in_row() == checkpoints.disk_bytes(work.folder) > onnx.bytes + bundle.bytes
    with zipfile.ZipFile(exports.path(work.folder, "bundle")) as opened:
        assert opened.read("model.onnx") == exports.path(work.folder, "onnx").read_bytes()
        assert b"an image of the data set" in opened.read("README.md")
    assert [path.name for path in work.folder.parent.iterdir()] == [work.folder.name]


def test_without_images_noise_will_do(
    make: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = make(None)
    with monkeypatch.context() as patched:
        patched.setattr(export, "write_onnx", _write_old)
        patched.setattr(export, "check", _agree)
        assert work.run("onnx").state == "succeeded"
    made = exports.find(work.folder, "onnx")
    assert made is not None
    assert (made.check.of, made.temperature) == ("noise", 1.0)

    # Judged since: the file's probabilities are made anew, and the bundle is of the new file.
    (work.folder / report.EVALUATION).write_text('{"calibration": {"temperature": 1.5}}')
    assert exports.find(work.folder, "onnx") is None
    assert work.run("bundle").state == "succeeded"
    assert [one and one.temperature for one in _both(work.folder)] == [1.5, 1.5]
    with zipfile.ZipFile(exports.path(work.folder, "bundle")) as opened:
        assert len(opened.read("model.onnx")) > 10_000


def _write_old(*_: Any, target: Path, **__: Any) -> dict[str, str]:
    target.write_bytes(b"old")
    return {}


def _agree(_: Path, __: Any, ___: Any, pixels: Any, *, of: Any) -> exports.Check:
    return exports.Check(
        images=len(pixels), of=of, largest_difference=0.0, largest_logit=1.0, tolerance=1e-4
    )


def _both(folder: Path) -> list[exports.Export | None]:
    return [exports.find(folder, "onnx"), exports.find(folder, "bundle")]


@pytest.mark.parametrize("dataset", ["mnist", "gone", None])
def test_a_data_set_that_is_not_here_is_none(
    dataset: str | None, make: Callable[..., Work]
) -> None:
    work = make(dataset)
    manifest = checkpoints.read_manifest(work.folder)
    assert run_export._real(manifest, work.home / "datasets", count=9) is None


def test_images_that_cannot_be_read_are_left_out(
    make: Callable[..., Work], write_images: Callable[..., Path]
) -> None:
    root = write_images("train", "val", count=6)
    work = make("shapes")
    manifest = checkpoints.read_manifest(work.folder)
    counts = catalog.facts("shapes", root).counts
    (root / "shapes" / "val" / "left" / "02.png").write_bytes(b"\x89PNG no more")
    found = run_export._real(manifest, root, count=100)
    assert found is not None
    assert found.shape == (counts["val"] - 1, 28, 28, 1)
    assert arrays.is_local("shapes", root)


def _fail(*_: Any, **__: Any) -> None:
    raise Problem("export_failed", "ONNX has no such layer.")


def test_a_network_that_onnx_cannot_take_leaves_nothing(
    make: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = make()
    monkeypatch.setattr(export, "write_onnx", _fail)
    outcome = work.run("onnx")
    assert (outcome.state, outcome.error and outcome.error["code"]) == ("failed", "export_failed")
    assert exports.find(work.folder, "onnx") is None
    assert [path.name for path in work.folder.parent.iterdir()] == [work.folder.name]
    assert checkpoints.disk_bytes(work.folder) > 0


def test_a_checkpoint_that_is_gone_is_a_problem(make: Callable[..., Work]) -> None:
    work = make()
    checkpoints.remove(work.folder)
    outcome = work.run("onnx")
    assert outcome.error is not None
    assert outcome.error["code"] == "checkpoint_not_found"
    assert list(work.folder.parent.iterdir()) == []


def test_a_damaged_report_is_a_problem(make: Callable[..., Work]) -> None:
    work = make()
    (work.folder / "evaluation.json").write_text("{")

    outcome = work.run("onnx")

    assert outcome.error is not None
    assert outcome.error["code"] == "checkpoint_damaged"
    assert "evaluation.json cannot be read" in outcome.error["message"]


def test_a_cancelled_export_stops(make: Callable[..., Work]) -> None:
    work = make()
    work.stop.set("cancel")
    assert work.run("onnx") == Outcome("cancelled")
    assert exports.find(work.folder, "onnx") is None
