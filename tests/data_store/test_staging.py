"""A data set takes its place as a whole, or is not there at all."""

import errno
import shutil
from pathlib import Path

import pytest

from data_store import catalog, staging
from data_store.staging import Staging


@pytest.fixture
def datasets(tmp_path: Path) -> Path:
    return tmp_path / "datasets"


def begun(datasets: Path, claim: int = 1, *, text: str = "new") -> Staging:
    """A set that is made, and described, but not in its place."""
    stage = Staging(datasets, "job_1", claim, "pets")
    stage.begin()
    (stage.set / "cat").mkdir(parents=True)
    (stage.set / "cat/1.jpg").write_text(text)
    stage.describe({"job": "job_1", "version": text}, {"images": 1})
    return stage


def inside(datasets: Path) -> list[str]:
    return sorted(path.name for path in datasets.iterdir())


def test_a_set_appears_with_what_is_known_about_it(datasets: Path) -> None:
    stage = begun(datasets)
    assert catalog.names(datasets) == catalog.names(datasets.parent)  # nobody sees it

    stage.take_place()
    stage.end()

    assert inside(datasets) == ["pets"]
    assert (datasets / "pets/cat/1.jpg").read_text() == "new"
    assert staging.read(datasets / "pets", staging.ORIGIN) == {"job": "job_1", "version": "new"}
    assert staging.read(datasets / "pets", staging.REPORT) == {"images": 1}


def test_it_replaces_what_was_there(datasets: Path) -> None:
    (datasets / "pets/dog").mkdir(parents=True)

    stage = begun(datasets)
    stage.take_place()
    stage.end()

    assert inside(datasets) == ["pets"]
    assert not (datasets / "pets/dog").exists()


def test_a_link_to_a_set_is_replaced_and_not_followed(datasets: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere/dog").mkdir(parents=True)
    datasets.mkdir()
    (datasets / "pets").symlink_to(tmp_path / "elsewhere")

    stage = begun(datasets)
    stage.take_place()
    stage.end()

    assert (datasets / "pets/cat/1.jpg").exists()
    assert (tmp_path / "elsewhere/dog").is_dir()


def test_what_ends_before_leaves_nothing(datasets: Path) -> None:
    (datasets / "pets/dog").mkdir(parents=True)

    begun(datasets).end()

    assert inside(datasets) == ["pets"]
    assert (datasets / "pets/dog").exists()


def killed_between(datasets: Path) -> None:
    """The old set has left its place; the new one has not taken it."""
    (datasets / "pets/dog").mkdir(parents=True)
    stage = begun(datasets)
    stage.set.rename(stage.folder / "out of the way")
    with pytest.raises(FileNotFoundError):
        stage.take_place()
    assert not (datasets / "pets").exists()


def test_the_next_attempt_puts_back_what_a_killed_one_had_moved(datasets: Path) -> None:
    killed_between(datasets)

    begun(datasets, claim=2)

    assert (datasets / "pets/dog").exists()
    assert inside(datasets) == [".import-job_1.2", "pets"]


def test_so_does_a_sweep_when_the_job_is_over(datasets: Path) -> None:
    killed_between(datasets)
    assert staging.jobs(datasets) == {"job_1"}

    staging.sweep(datasets, {"job_2"})
    assert inside(datasets) == [".import-job_1.1"]
    staging.sweep(datasets, {"job_1"})
    assert (datasets / "pets/dog").exists()
    assert staging.jobs(datasets) == set()


def test_what_was_swept_is_removed_afterwards_and_moves_no_set_any_more(datasets: Path) -> None:
    (datasets / "pets/dog").mkdir(parents=True)
    begun(datasets).take_place()  # the old set is on its way out
    staging.sweep(datasets, {"job_1"})
    (datasets / "pets").rename(datasets / "renamed by somebody")

    staging.sweep(datasets, {"job_1"})
    staging.clear(datasets)

    assert inside(datasets) == ["renamed by somebody"]


def test_a_sweep_of_no_folder_is_no_error(datasets: Path) -> None:
    assert staging.jobs(datasets) == set()
    staging.sweep(datasets, set())
    staging.clear(datasets)


def test_what_cannot_be_swept_is_said_and_left_as_it_is(
    datasets: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a disk that turned read-only."""
    begun(datasets)

    def refuse(path: Path, target: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refuse)
        staging.sweep(datasets, {"job_1"})
    assert inside(datasets) == [".import-job_1.1"]
    assert ".import-job_1.1 cannot be swept: [Errno 30] Read-only file system" in caplog.text

    staging.sweep(datasets, {"job_1"})
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda *_, **__: None)
        staging.clear(datasets)
    [name] = inside(datasets)
    assert f"{name} cannot be removed" in caplog.text


def test_an_attempt_sees_that_it_is_done_already(datasets: Path) -> None:
    stage = begun(datasets)
    assert not stage.is_done()
    stage.take_place()

    again = Staging(datasets, "job_1", 2, "pets")
    again.begin()

    assert again.is_done()
    assert not Staging(datasets, "job_2", 1, "pets").is_done()


@pytest.mark.parametrize("text", [None, "no json", "[]"])
def test_a_record_that_is_none_is_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / ".danlu").mkdir()
        (tmp_path / ".danlu/report.json").write_text(text)

    assert staging.read(tmp_path, staging.REPORT) is None
