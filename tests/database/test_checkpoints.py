import math
from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session, sessionmaker

from database import checkpoints, history, ids, jobs
from problems import Problem

Sessions = sessionmaker[Session]
JobIn = Callable[..., tuple[str, jobs.Fence]]


def add(
    sessions: Sessions,
    fence: jobs.Fence,
    *results: tuple[float | None, float | None],
    first_epoch: int = 1,
) -> list[str]:
    made = []
    for epoch, (accuracy, loss) in enumerate(results, first_epoch):
        made.append(ids.new("ckpt"))
        with sessions.begin() as session:
            assert checkpoints.add(
                session,
                fence,
                checkpoint_id=made[-1],
                epoch=epoch,
                val_accuracy=accuracy,
                val_loss=loss,
                disk_bytes=1000,
            )
    return made


def best(sessions: Sessions, fence: jobs.Fence) -> tuple[str | None, float | None]:
    with sessions() as session:
        job = jobs.get(session, fence.job_id)
        found = checkpoints.best_of(session, fence.job_id)
    assert job.best_checkpoint_id == (found.id if found else None)
    return job.best_checkpoint_id, job.best_val_accuracy


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([(0.5, 1.0), (0.9, 1.0), (0.8, 0.1)], 1),
        ([(0.9, 0.5), (0.9, 0.3), (0.9, 0.4)], 1),
        ([(0.9, 0.3), (0.9, 0.3)], 0),
        ([(0.9, math.nan), (0.9, 5.0)], 1),
        ([(None, None), (0.1, 9.0)], 1),
        ([(None, 0.5), (None, 0.4)], 1),
    ],
)
def test_the_best_is_most_accurate_then_least_loss_then_earliest(
    sessions: Sessions,
    running: jobs.Fence,
    results: list[tuple[float | None, float | None]],
    expected: int,
) -> None:
    made = add(sessions, running, *results)
    assert best(sessions, running) == (made[expected], results[expected][0])


def test_a_checkpoint_is_found_by_its_id(sessions: Sessions, running: jobs.Fence) -> None:
    [made] = add(sessions, running, (0.5, 1.0))
    with sessions() as session:
        row = checkpoints.get(session, made)
        assert (row.job_id, row.epoch, row.disk_bytes) == (running.job_id, 1, 1000)
        assert row.created_at == ids.time_of(made)
        with pytest.raises(Problem) as caught:
            checkpoints.get(session, "../../etc/passwd")
    assert caught.value.code == "checkpoint_not_found"


def test_lists_go_from_the_newest_page_by_page(sessions: Sessions, job_in: JobIn) -> None:
    one, two = job_in(jobs.State.running)[1], job_in(jobs.State.running)[1]
    mine = add(sessions, one, (0.1, 1), (0.2, 1), (0.3, 1))
    others = add(sessions, two, (0.1, 1))
    with sessions() as session:
        first = checkpoints.find(session, limit=3)
        rest = checkpoints.find(session, limit=3, cursor=first.next_cursor)
        of_one = checkpoints.find(session, job_id=one.job_id)
        oldest_first = checkpoints.of_job(session, one.job_id)
    newest_first = [*others, *reversed(mine)]
    assert [row.id for row in (*first.items, *rest.items)] == newest_first
    assert rest.next_cursor is None
    assert [row.id for row in of_one.items] == newest_first[1:]
    assert [row.id for row in oldest_first] == mine


def test_the_newest_and_the_best_are_kept(sessions: Sessions, running: jobs.Fence) -> None:
    made = add(sessions, running, (0.5, 1), (0.9, 1), (0.6, 1), (0.7, 1))

    def prunable(keep: int | None) -> list[str]:
        with sessions() as session:
            return checkpoints.prunable(session, running.job_id, keep=keep)

    assert prunable(None) == []
    assert prunable(9) == []
    assert prunable(2) == [made[0]]
    assert prunable(1) == [made[0], made[2]]
    assert prunable(0) == [made[0], made[2], made[3]]


def test_removing_the_best_makes_the_next_one_best(sessions: Sessions, running: jobs.Fence) -> None:
    made = add(sessions, running, (0.5, 1), (0.9, 1), (0.7, 1))
    remaining = [made[2], made[0], None]
    for gone, next_best in zip((made[1], made[2], made[0]), remaining, strict=True):
        with sessions.begin() as session:
            assert checkpoints.remove(session, gone)
            assert not checkpoints.remove(session, gone)
        assert best(sessions, running) == (next_best, 0.9), "what it reached stays true"


def test_a_job_knows_the_bytes_of_its_checkpoints(sessions: Sessions, running: jobs.Fence) -> None:
    first, _ = add(sessions, running, (0.5, 1), (0.9, 1))
    with sessions.begin() as session:
        assert jobs.get(session, running.job_id).disk_bytes == 2000
        checkpoints.remove(session, first)
        assert jobs.get(session, running.job_id).disk_bytes == 1000


def test_the_newest_model_is_of_the_newest_job_that_succeeded(
    sessions: Sessions, job_in: JobIn
) -> None:
    def newest() -> str | None:
        with sessions() as session:
            found = checkpoints.newest_model(session)
        return found.id if found else None

    assert newest() is None
    fences = [job_in(jobs.State.running)[1] for _ in range(4)]
    made = [add(sessions, fence, (0.9, 1), (0.5, 1))[0] for fence in fences[:3]]
    assert newest() is None, "they are still running"
    ends = [jobs.State.succeeded, jobs.State.succeeded, jobs.State.failed, jobs.State.succeeded]
    with sessions.begin() as session:
        for fence, state in zip(fences, ends, strict=True):
            jobs.finish(session, fence, state=state)
    assert newest() == made[1], "the third failed, the fourth has none"
    with sessions.begin() as session:
        for row in checkpoints.of_job(session, fences[1].job_id):
            checkpoints.remove(session, row.id)
    assert newest() == made[0]


def test_one_without_a_job(sessions: Sessions) -> None:
    made = ids.new("ckpt")
    with sessions.begin() as session:
        row = checkpoints.add_foreign(session, made, disk_bytes=7)
        assert (row.job_id, row.epoch, row.val_accuracy) == (None, 0, None)
        assert checkpoints.newest_model(session) is None
    with sessions.begin() as session:
        checkpoints.weigh(session, made, disk_bytes=70)
    with sessions.begin() as session:
        assert [one.disk_bytes for one in checkpoints.find(session).items] == [70]
        assert checkpoints.known(session) == ({made}, {})
        assert checkpoints.remove(session, made)
        assert not checkpoints.remove(session, made)
        checkpoints.weigh(session, made, disk_bytes=1)


def test_what_is_known_of_them(sessions: Sessions, running: jobs.Fence) -> None:
    made = add(sessions, running, (0.5, 1.0), (0.6, 1.0))
    with sessions.begin() as session:
        for epoch in (1, 2, 3):  # the third one has no checkpoint yet
            assert history.add_epoch(session, running, {"epoch": epoch})

    with sessions() as session:
        known = checkpoints.known(session)

    assert known == (set(made), {running.job_id: 3})


def test_what_an_export_adds_counts_for_its_job(sessions: Sessions, running: jobs.Fence) -> None:
    first, _ = add(sessions, running, (0.5, 1.0), (0.6, 1.0))
    with sessions.begin() as session:
        checkpoints.weigh(session, first, disk_bytes=5000)
    with sessions() as session:
        assert jobs.get(session, running.job_id).disk_bytes == 6000


def test_what_others_need_is_not_pruned(sessions: Sessions, running: jobs.Fence) -> None:
    first, second, third, _ = add(sessions, running, *[(0.1, 1.0)] * 3, (0.9, 0.1))
    with sessions.begin() as session:
        wants = {"init_from": second}
        train = jobs.enqueue(session, kind="train", dataset="d", recipe=wants, owner="lin")
        asked = {"checkpoint": third, "format": "onnx"}
        export = jobs.enqueue(
            session, kind="export", dataset=None, recipe=None, request=asked, owner="lin"
        )
        assert checkpoints.needed(session) == {second: train.id, third: export.id}
        assert checkpoints.prunable(session, running.job_id, keep=1) == [first]
        jobs.cancel(session, train.id)
        assert checkpoints.needed(session) == {third: export.id}
        assert checkpoints.prunable(session, running.job_id, keep=1) == [first, second]
