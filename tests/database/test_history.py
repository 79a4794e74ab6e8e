from collections.abc import Callable
from itertools import pairwise

import pytest
from sqlalchemy.orm import Session, sessionmaker

from database import events, history, jobs

Sessions = sessionmaker[Session]


def add_steps(sessions: Sessions, fence: jobs.Fence, numbers: range) -> None:
    with sessions.begin() as session:
        for number in numbers:
            values = {"step": number, "epoch": 1 + number // 100, "train_loss": 1 / number}
            assert history.add_step(session, fence, values | {"lr": 0.1})


def numbers(sessions: Sessions, fence: jobs.Fence, **asked: int) -> list[int]:
    with sessions() as session:
        return [step.step for step in history.steps(session, fence.job_id, **asked)]


def test_epochs_come_back_in_order(sessions: Sessions, running: jobs.Fence) -> None:
    with sessions.begin() as session:
        for number in (1, 2, 3):
            values = {"epoch": number, "train_loss": 1 / number, "val_accuracy": 0.9}
            assert history.add_epoch(session, running, values)
    with sessions() as session:
        rows = history.epochs(session, running.job_id)
    assert [(row.epoch, row.attempt, row.train_loss) for row in rows] == [
        (1, 1, 1.0),
        (2, 1, 0.5),
        (3, 1, 1 / 3),
    ]
    assert (rows[0].val_accuracy, rows[0].test_loss) == (0.9, None)


def test_an_attempt_that_begins_again_replaces_its_own_line(
    sessions: Sessions, running: jobs.Fence, claim: Callable[..., jobs.Job]
) -> None:
    with sessions.begin() as session:
        for number in (1, 2, 3):
            history.add_epoch(session, running, {"epoch": number})
        jobs.release(session, running)
    again = jobs.fence_of(claim())
    with sessions.begin() as session:
        history.add_epoch(session, again, {"epoch": 1, "train_loss": 7.0})
        jobs.lose(session, again, reason="ended by SIGKILL")
    third = jobs.fence_of(claim())
    with sessions.begin() as session:
        history.add_epoch(session, third, {"epoch": 1})
        rows = history.epochs(session, running.job_id)
    assert [(row.attempt, row.epoch, row.train_loss) for row in rows] == [(1, 1, 7.0), (2, 1, None)]


def test_steps_are_one_line_whatever_was_lost(
    sessions: Sessions, running: jobs.Fence, claim: Callable[..., jobs.Job]
) -> None:
    add_steps(sessions, running, range(10, 60, 10))
    with sessions.begin() as session:
        jobs.lose(session, running, reason="ended by SIGKILL")
    again = jobs.fence_of(claim())
    add_steps(sessions, again, range(25, 46, 10))
    assert numbers(sessions, running) == [10, 20, 25, 35, 45]
    assert numbers(sessions, running, since=25) == [35, 45]


@pytest.mark.parametrize("points", [2, 3, 7, 50, 99, 100, 101, 10_000])
def test_thinning_is_even_and_keeps_both_ends(
    sessions: Sessions, running: jobs.Fence, points: int
) -> None:
    add_steps(sessions, running, range(1, 101))
    kept = numbers(sessions, running, max_points=points)
    assert len(kept) == min(points, 100)
    assert (kept[0], kept[-1]) == (1, 100)
    gaps = [b - a for a, b in pairwise(kept)]
    assert max(gaps) - min(gaps) <= 1


def test_thinning_few_points(sessions: Sessions, running: jobs.Fence) -> None:
    assert numbers(sessions, running, max_points=10) == []
    add_steps(sessions, running, range(5, 6))
    assert numbers(sessions, running, max_points=10) == [5]
    add_steps(sessions, running, range(6, 10))
    assert numbers(sessions, running, max_points=1) == [5, 9]
    assert numbers(sessions, running, since=6, max_points=2) == [7, 9]


def test_a_job_that_does_not_exist_has_no_history(sessions: Sessions) -> None:
    with sessions() as session:
        assert history.epochs(session, "job_none") == []
        assert history.steps(session, "job_none", max_points=5) == []


def test_attempts_are_one_curve_without_what_was_taken_back(
    sessions: Sessions, running: jobs.Fence, claim: Callable[..., jobs.Job]
) -> None:
    with sessions.begin() as session:
        for number in (1, 2, 3, 4):
            history.add_epoch(session, running, {"epoch": number})
        jobs.lose(session, running, reason="of a crash")
    again = jobs.fence_of(claim())
    with sessions.begin() as session:
        history.add_epoch(session, again, {"epoch": 3})
    with sessions() as session:
        curve = history.curve(session, running.job_id)
    assert [(row.epoch, row.attempt) for row in curve] == [(1, 1), (2, 1), (3, 2)]


def test_advice_is_told_to_those_who_listen(sessions: Sessions, running: jobs.Fence) -> None:
    with sessions.begin() as session:
        assert history.add_coach(session, running, {"code": "overfitting"})
        jobs.release(session, running)
        assert not history.add_coach(session, running, {"code": "overfitting"})
        told = events.since(session, 0, job_id=running.job_id, limit=99)
    assert [one.data for one in told if one.type == "coach"] == [{"code": "overfitting"}]
