import math
import time
from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session, sessionmaker

from data_store import progress
from database import events, history, jobs
from database.jobs import Fence
from models_store.recipe import Recipe
from workers.coach import Advice
from workers.journal import Journal
from workers.reporter import Reporter, Stop, Stopped
from workers.training import EpochEnd, Metrics, Tick

Sessions = sessionmaker[Session]
MakeRecipe = Callable[..., Recipe]
Job = Callable[[Fence], jobs.Job]
NewJournal = Callable[..., Journal]
LAST = EpochEnd(
    epoch=2,
    step=8,
    train=Metrics(0.5, 0.75),
    validation=Metrics(0.4, 0.8),
    lr=0.01,
    seconds=2.0,
    images_per_second=100.0,
)


@pytest.fixture
def reporter(sessions: Sessions, running: Fence) -> Reporter:
    return Reporter(sessions, running, Stop())


@pytest.fixture
def journal(
    sessions: Sessions, running: Fence, reporter: Reporter, recipe: MakeRecipe
) -> NewJournal:
    def journal(**asked: object) -> Journal:
        return Journal(sessions, running, reporter, recipe(epochs=4, **asked))

    return journal


def tick(step: int, *, epoch: int, loss: float) -> Tick:
    return Tick(step, epoch, Metrics(loss, 0.5), lr=step / 1000, images_per_second=90.0)


def test_a_download_is_counted_in_bytes(
    journal: NewJournal, reporter: Reporter, running: Fence, job: Job
) -> None:
    with reporter:
        journal().loading("downloading", 30, 120)

    assert job(running).progress == {
        "phase": "downloading", "epoch": 0, "epochs": 4, "step": 0, "steps": None,
        "fraction": 0.25, "images_per_second": None, "eta_seconds": None,
        "bytes": 30, "bytes_per_second": None,
    }  # fmt: skip


def test_a_download_that_grows_has_a_rate(
    journal: NewJournal,
    reporter: Reporter,
    running: Fence,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(progress, "monotonic", lambda: now)
    told = journal()
    with reporter:
        told.loading("downloading", 1000, 5000)
        now += 2
        told.loading("downloading", 2000, 5000)
    written = job(running).progress or {}
    assert (written["bytes_per_second"], written["eta_seconds"]) == (500, 6)

    told.training(10)
    told.tick(tick(1, epoch=1, loss=1.0))
    assert told._progress["bytes_per_second"] is None


@pytest.mark.parametrize(("done", "total", "fraction"), [(5, 10, 0.5), (0, 0, None)])
def test_decoding_is_counted_in_images(
    journal: NewJournal,
    reporter: Reporter,
    running: Fence,
    job: Job,
    done: int,
    total: int,
    fraction: float | None,
) -> None:
    with reporter:
        journal().loading("decoding", done, total)

    progress = job(running).progress
    assert progress is not None
    assert (progress["phase"], progress["fraction"]) == ("decoding", fraction)
    assert progress["bytes"] is None


def test_a_tick_is_a_step_and_the_newest_loss(
    journal: NewJournal, reporter: Reporter, running: Fence, job: Job, sessions: Sessions
) -> None:
    told = journal()
    with reporter:
        told.training(16)
        told.tick(tick(1, epoch=1, loss=2.3))
        first = told.metrics()
        told.tick(tick(6, epoch=2, loss=1.5))

    progress = job(running).progress
    assert progress is not None
    assert progress["phase"] == "training"
    assert (progress["epoch"], progress["step"], progress["steps"]) == (1, 6, 16)
    assert progress["fraction"] == 6 / 16
    assert progress["images_per_second"] == 90
    assert progress["eta_seconds"] > 0
    assert first == {"train_loss": 2.3, "train_accuracy": 0.5}
    assert job(running).metrics == {"train_loss": 1.5, "train_accuracy": 0.5}
    with sessions() as session:
        line = history.steps(session, running.job_id)
    assert [(row.step, row.epoch, row.train_loss, row.lr) for row in line] == [
        (1, 1, 2.3, 0.001),
        (6, 2, 1.5, 0.006),
    ]


def test_a_job_that_goes_on_says_where_it_is(
    sessions: Sessions, running: Fence, reporter: Reporter, recipe: MakeRecipe, job: Job
) -> None:
    before = {"val_accuracy": 0.8, "val_count": 20, "train_loss": 0.7}
    told = Journal(sessions, running, reporter, recipe(epochs=4), metrics=before)
    with reporter:
        told.training(16, done=8, epoch=2)
        told.tick(tick(9, epoch=3, loss=0.5))

    progress = job(running).progress
    assert progress is not None
    assert (progress["epoch"], progress["step"], progress["steps"]) == (2, 9, 16)
    assert progress["fraction"] == 9 / 16
    assert progress["eta_seconds"] is None  # the first step of this attempt
    assert job(running).metrics == {
        "val_accuracy": 0.8, "val_count": 20, "train_loss": 0.5, "train_accuracy": 0.5,
    }  # fmt: skip


def test_what_is_left_is_foretold_by_the_steps_of_this_attempt(
    sessions: Sessions, running: Fence, reporter: Reporter, recipe: MakeRecipe, job: Job
) -> None:
    told = Journal(sessions, running, reporter, recipe(epochs=4))
    with reporter:
        told.training(1000, done=990, epoch=3)
        time.sleep(0.1)
        told.tick(tick(995, epoch=4, loss=0.5))

    progress = job(running).progress
    assert progress is not None
    assert progress["eta_seconds"] >= 0.1  # as long as the five before it; not 0.1 s / 995 each


def test_no_more_is_left_than_a_limit_leaves(
    journal: NewJournal, reporter: Reporter, running: Fence, job: Job
) -> None:
    told = journal(max_seconds=60)
    with reporter:
        told.training(1_000_000, done=500_000, epoch=2, seconds=20.0)
        time.sleep(0.1)
        told.tick(tick(500_002, epoch=3, loss=0.5))

    progress = job(running).progress
    assert progress is not None
    assert 10 < progress["eta_seconds"] < 20


def test_the_first_step_foretells_nothing(
    journal: NewJournal, reporter: Reporter, running: Fence, job: Job
) -> None:
    told = journal()
    with reporter:
        told.training(16)
        told.tick(tick(1, epoch=1, loss=2.3))

    progress = job(running).progress
    assert progress is not None
    assert progress["eta_seconds"] is None


def test_an_epoch_is_a_row_at_once(
    journal: NewJournal, reporter: Reporter, running: Fence, job: Job, sessions: Sessions
) -> None:
    told = journal()
    told.training(16)
    told.epoch(LAST, 20)

    with sessions() as session:
        (row,) = history.epochs(session, running.job_id)
    assert (row.attempt, row.epoch, row.lr) == (1, 2, 0.01)
    assert (row.train_loss, row.train_accuracy, row.val_loss, row.val_accuracy) == (
        0.5, 0.75, 0.4, 0.8,
    )  # fmt: skip
    assert (row.test_loss, row.test_accuracy) == (None, None)
    assert (row.images_per_second, row.seconds) == (100, 2)
    with reporter:
        pass
    assert job(running).metrics == {
        "train_loss": 0.5, "train_accuracy": 0.75, "val_loss": 0.4, "val_accuracy": 0.8,
        "test_loss": None, "test_accuracy": None, "val_count": 20,
    }  # fmt: skip
    progress = job(running).progress
    assert progress is not None
    assert (progress["epoch"], progress["step"], progress["fraction"]) == (2, 8, 0.5)


def test_validation_on_the_test_part_fills_both(
    journal: NewJournal, running: Fence, sessions: Sessions
) -> None:
    told = journal(validation="test")
    told.training(16)
    told.epoch(LAST, 20)

    with sessions() as session:
        (row,) = history.epochs(session, running.job_id)
    assert (row.val_loss, row.val_accuracy) == (row.test_loss, row.test_accuracy) == (0.4, 0.8)
    assert told.metrics()["test_accuracy"] == 0.8


def test_a_loss_that_is_no_number_is_null(
    journal: NewJournal, reporter: Reporter, running: Fence, job: Job, sessions: Sessions
) -> None:
    told = journal()
    with reporter:
        told.training(16)
        told.tick(tick(1, epoch=1, loss=math.nan))
        told.epoch(
            EpochEnd(1, 4, Metrics(math.inf, 0.1), Metrics(math.nan, 0.1), 0.01, 2.0, 100.0), 20
        )

    metrics = job(running).metrics
    assert metrics is not None
    assert (metrics["train_loss"], metrics["val_loss"]) == (None, None)
    with sessions() as session:
        (row,) = history.epochs(session, running.job_id)
        assert (row.train_loss, row.val_loss, row.val_accuracy) == (None, None, 0.1)
        assert history.steps(session, running.job_id)[0].train_loss is None


def test_an_epoch_of_a_lost_claim_stops_the_work(
    journal: NewJournal, running: Fence, sessions: Sessions
) -> None:
    told = journal()
    told.training(16)
    with sessions.begin() as session:
        jobs.release(session, running)

    with pytest.raises(Stopped):
        told.epoch(LAST, 20)

    with sessions() as session:
        assert history.epochs(session, running.job_id) == []


def test_warnings_are_written_with_the_version_of_the_data(
    journal: NewJournal, running: Fence, job: Job
) -> None:
    told = journal()
    told.warn("validation_tiny", "With 5 images …")
    told.describe("abc123")

    assert job(running).dataset_version == "abc123"
    assert job(running).warnings == [{"code": "validation_tiny", "message": "With 5 images …"}]


def test_epochs_of_other_images_are_told_of_for_good(
    sessions: Sessions, reporter: Reporter, recipe: MakeRecipe, running: Fence, job: Job
) -> None:
    def attempt(version: str, **metrics: float) -> None:
        Journal(sessions, running, reporter, recipe(), metrics=metrics).describe(version)

    attempt("abc")
    attempt("def", train_loss=0.5)  # before the end of an epoch
    attempt("def", val_loss=0.8)
    assert job(running).warnings == []

    for version in ("ghi", "ghi", "jkl"):
        attempt(version, val_loss=0.8)
        (warning,) = job(running).warnings
        assert warning["code"] == "dataset_changed"


def test_the_test_part_is_measured_at_the_end(
    journal: NewJournal, reporter: Reporter, running: Fence, job: Job
) -> None:
    told = journal()
    with reporter:
        told.training(16)
        told.epoch(LAST, 20)
        told.evaluating()
        told.tested(Metrics(0.3, 0.9))

    metrics, progress = job(running).metrics, job(running).progress
    assert metrics is not None
    assert progress is not None
    assert (metrics["test_loss"], metrics["test_accuracy"]) == (0.3, 0.9)
    assert metrics["val_accuracy"] == 0.8
    assert (progress["phase"], progress["eta_seconds"]) == ("evaluating", None)


ADVICE = Advice("loss_diverged", "Too fast.", {"dataset": "shapes", "lr": 0.1})


def test_advice_is_an_event_with_a_recipe_and_a_warning_that_stays(
    journal: NewJournal, running: Fence, job: Job, sessions: Sessions
) -> None:
    first = journal()
    first.warn("validation_tiny", "Few.")
    first.describe("v1")

    first.advise(ADVICE)

    with sessions() as session:
        told = [e for e in events.since(session, 0, limit=99) if e.type == "coach"]
    assert [one.data for one in told] == [
        {
            "code": "loss_diverged",
            "message": "Too fast.",
            "recipe": {"dataset": "shapes", "lr": 0.1},
        }
    ]
    said = [
        {"code": "validation_tiny", "message": "Few."},
        {"code": "loss_diverged", "message": "Too fast."},
    ]
    assert job(running).warnings == said

    journal().describe("v1")  # the next attempt
    assert job(running).warnings == said[1:]


def test_a_notice_is_written_at_once(journal: NewJournal, running: Fence, job: Job) -> None:
    told = journal()
    told.describe("v1")
    told.notice("tensorboard_unwritten", "The disk is full.")

    assert job(running).warnings == [
        {"code": "tensorboard_unwritten", "message": "The disk is full."}
    ]
