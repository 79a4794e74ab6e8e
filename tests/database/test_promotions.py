"""When the end of a job points an alias at its best checkpoint, and what is said when not."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from database import aliases, checkpoints, ids, jobs, promotions
from database.tables import Checkpoint, Job

Sessions = sessionmaker[Session]


class Trainings:
    """Jobs that have ended, each with one checkpoint, and the alias that they promote to."""

    def __init__(self, sessions: Sessions, job_in: Callable[..., Any]) -> None:
        self._sessions, self._job_in = sessions, job_in

    def end(
        self,
        accuracy: float | None,
        *,
        promote: str | None = "better",
        parity: bool | None = True,
        version: str = "v1",
        **recipe: Any,
    ) -> str:
        """The id of the checkpoint of a job that ends now."""
        if promote:
            recipe["promote"] = {"alias": "production", "if": promote}
        job_id, fence = self._job_in(jobs.State.running, recipe=recipe)
        made = ids.new("ckpt")
        with self._sessions.begin() as session:
            jobs.describe(session, fence, dataset_version=version)
            checkpoints.add(
                session,
                fence,
                checkpoint_id=made,
                epoch=1,
                val_accuracy=accuracy,
                val_loss=0.5,
                disk_bytes=1,
            )
            checkpoints.prove(session, fence, made, passed=parity)
        with self._sessions.begin() as session:
            assert jobs.finish(session, fence, state=jobs.State.succeeded)
            promotions.settle(session, jobs.get(session, job_id))
        return made

    @property
    def production(self) -> str | None:
        with self._sessions() as session:
            found = aliases.find(session).items
        return found[0].checkpoint_id if found else None

    def said(self, checkpoint_id: str) -> str | None:
        """Why it was not promoted."""
        with self._sessions() as session:
            job = session.get_one(Job, checkpoints.get(session, checkpoint_id).job_id)
        told = [one["message"] for one in job.warnings if one["code"] == "not_promoted"]
        return told[0] if told else None


@pytest.fixture
def trainings(sessions: Sessions, job_in: Callable[..., Any]) -> Trainings:
    return Trainings(sessions, job_in)


def test_the_first_is_promoted_and_then_only_what_is_better(trainings: Trainings) -> None:
    first = trainings.end(0.8)
    assert (trainings.production, trainings.said(first)) == (first, None)
    same, worse, nan = trainings.end(0.8), trainings.end(0.7), trainings.end(None)
    assert trainings.production == first
    for one in (same, worse, nan):
        assert first in (trainings.said(one) or "")
    assert "0.8000, that of" in (trainings.said(worse) or "")
    better = trainings.end(0.81)
    assert trainings.production == better


def test_always_is_always(trainings: Trainings) -> None:
    trainings.end(0.8)
    assert trainings.end(0.7, promote="always", version="v2") == trainings.production


def test_who_does_not_ask_changes_nothing(trainings: Trainings) -> None:
    assert trainings.said(trainings.end(0.9, promote=None)) is None
    assert trainings.production is None


@pytest.mark.parametrize("promote", ["better", "always"])
@pytest.mark.parametrize("parity", [False, None])
def test_what_is_not_proven_is_never_promoted(
    trainings: Trainings, promote: str, parity: bool | None
) -> None:
    one = trainings.end(0.9, promote=promote, parity=parity)
    assert trainings.production is None
    assert one in (trainings.said(one) or "")


@pytest.mark.parametrize(
    "other", [{"version": "v2"}, {"validation": "test"}, {"validation": "val"}]
)
def test_what_cannot_be_compared_is_not_better(trainings: Trainings, other: dict[str, Any]) -> None:
    first = trainings.end(0.5, validation=0.1)
    assert trainings.end(0.6, validation=0.2) == trainings.production != first
    one = trainings.end(0.9, **other)
    assert trainings.production != one
    assert "same data set" in (trainings.said(one) or "")


def test_a_foreign_checkpoint_is_not_compared(sessions: Sessions, trainings: Trainings) -> None:
    with sessions.begin() as session:
        row = checkpoints.add_foreign(session, ids.new("ckpt"), disk_bytes=1)
        aliases.point(session, "production", row.id, by="lin")
        foreign = row.id
    assert "same data set" in (trainings.said(trainings.end(0.9)) or "")
    assert trainings.production == foreign


def test_once_more_is_no_change_and_takes_the_word_back(
    sessions: Sessions, trainings: Trainings
) -> None:
    one = trainings.end(0.9, parity=None)
    for _ in range(2):
        with sessions.begin() as session:
            session.execute(update(Checkpoint).values(parity=True))
            job = session.get_one(Job, checkpoints.get(session, one).job_id)
            promotions.settle(session, job)
    assert (trainings.production, trainings.said(one)) == (one, None)
    with sessions() as session:
        history = aliases.history(session, ["production"])["production"]
    assert [row.updated_by for row in history] == ["lin"]


def test_a_job_without_a_checkpoint(sessions: Sessions, job_in: Callable[..., Any]) -> None:
    recipe = {"promote": {"alias": "production", "if": "always"}}
    job_id, _ = job_in(jobs.State.succeeded, recipe=recipe)
    with sessions.begin() as session:
        promotions.settle(session, jobs.get(session, job_id))
        assert jobs.get(session, job_id).warnings[0]["code"] == "not_promoted"
        assert aliases.names(session) == []
