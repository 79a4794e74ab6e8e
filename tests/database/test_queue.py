import random
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session, sessionmaker

from database import jobs, queue
from database.jobs import State

Sessions = sessionmaker[Session]
Claim = Callable[..., jobs.Job | None]
Enqueue = Callable[..., jobs.Job]


def enqueue_all(sessions: Sessions, asked: Sequence[dict[str, object]]) -> None:
    with sessions.begin() as session:
        for one in asked:
            given = {"kind": "train", "dataset": "digits", "recipe": {}, "owner": "lin"} | one
            jobs.enqueue(session, **given)  # type: ignore[arg-type]


def of_thirty_owners() -> list[dict[str, object]]:
    """20 jobs each, all of one owner before all of the next."""
    return [
        {"owner": f"owner {owner:02}", "name": f"{number}"}
        for owner in range(30)
        for number in range(20)
    ]


def finish(sessions: Sessions, job: jobs.Job) -> None:
    with sessions.begin() as session:
        assert jobs.finish(session, jobs.fence_of(job), state=State.succeeded)


def places(sessions: Sessions) -> dict[str, int]:
    with sessions() as session:
        return queue.positions(session)


def first_of(sessions: Sessions) -> str | None:
    return next((job_id for job_id, place in places(sessions).items() if place == 1), None)


def worked_off(sessions: Sessions, claim: Claim, *, workers: int) -> list[jobs.Job]:
    """Lets some workers do all that is queued, each job as long as it likes; the order of claims.

    Whoever is told to be the next must be the next.
    """
    chance = random.Random(workers)
    claimed: list[jobs.Job] = []
    at_work: list[jobs.Job] = []
    while True:
        if len(at_work) < workers and (expected := first_of(sessions)) is not None:
            job = claim()
            assert job is not None
            assert job.id == expected
            claimed.append(job)
            at_work.append(job)
        elif at_work:
            finish(sessions, at_work.pop(chance.randrange(len(at_work))))
        else:
            return claimed


def done_next(sessions: Sessions, claim: Claim, most: int) -> list[str | None]:
    """Names of the next jobs, each done before the one after it is claimed."""
    names: list[str | None] = []
    while len(names) < most and (job := claim()) is not None:
        names.append(job.name)
        finish(sessions, job)
    return names


def test_claims_go_by_priority_then_owner_with_fewest_at_work_then_age(
    enqueue: Enqueue, claim: Claim
) -> None:
    for name, owner, priority in [
        ("a1", "ann", 0),
        ("a2", "ann", 0),
        ("a3", "ann", 0),
        ("b1", "bo", 0),
        ("b2", "bo", 0),
        ("urgent", "ann", 5),
        ("late", "cy", -1),
    ]:
        enqueue(name=name, owner=owner, priority=priority)
    order = [job.name for job in iter(claim, None)]
    assert order == ["urgent", "b1", "a1", "b2", "a2", "a3", "late"]


def test_nobodys_first_job_waits_behind_anybodys_second(sessions: Sessions, claim: Claim) -> None:
    enqueue_all(sessions, of_thirty_owners())
    order = worked_off(sessions, claim, workers=3)
    assert len(order) == 600
    assert {job.name for job in order[:30]} == {"0"}
    for owner in {job.owner for job in order}:
        assert [job.name for job in order if job.owner == owner] == [f"{n}" for n in range(20)]


def test_one_worker_goes_round_by_round(sessions: Sessions, claim: Claim) -> None:
    enqueue_all(sessions, of_thirty_owners()[:100])
    owners = [job.owner for job in worked_off(sessions, claim, workers=1)]
    assert owners == [f"owner {number:02}" for number in range(5)] * 20


def test_a_thousand_jobs_of_one_owner_hold_nobody_up(sessions: Sessions, claim: Claim) -> None:
    enqueue_all(sessions, [{"owner": "lin" if number < 1000 else "wu"} for number in range(1001)])
    foreseen = places(sessions)
    assert sorted(foreseen.values()) == list(range(1, 1002))
    first, second = claim(), claim()
    assert first is not None
    assert second is not None
    assert (first.owner, second.owner) == ("lin", "wu")
    assert foreseen[second.id] == 2


def test_a_newcomer_is_next_whatever_was_before(
    sessions: Sessions, enqueue: Enqueue, claim: Claim
) -> None:
    enqueue_all(sessions, of_thirty_owners()[:100])
    for _ in range(8):
        job = claim()
        assert job is not None
        finish(sessions, job)
    new = enqueue(owner="new")
    assert places(sessions)[new.id] == 1
    taken = claim()
    assert taken is not None
    assert taken.id == new.id


@pytest.mark.parametrize("lost", [True, False])
def test_an_interrupted_job_goes_on_before_others_but_after_what_is_more_urgent(
    sessions: Sessions, enqueue: Enqueue, claim: Claim, lost: bool
) -> None:
    enqueue(name="interrupted")
    enqueue(name="before", owner="bo")
    job = claim()
    assert job is not None
    with sessions.begin() as session:
        if lost:
            assert jobs.lose(session, jobs.fence_of(job), reason="ended by SIGKILL")
        else:
            assert jobs.release(session, jobs.fence_of(job))
    enqueue(name="urgent", owner="lin", priority=1)
    assert done_next(sessions, claim, 3) == ["urgent", "interrupted", "before"]


def test_a_job_that_went_on_and_ended_is_not_interrupted_any_more(
    sessions: Sessions, enqueue: Enqueue, claim: Claim
) -> None:
    enqueue(name="lin 1")
    enqueue(name="bo 1", owner="bo")
    job = claim()
    assert job is not None
    with sessions.begin() as session:
        jobs.release(session, jobs.fence_of(job))
    assert done_next(sessions, claim, 1) == ["lin 1"]
    with sessions.begin() as session:
        jobs.resume(session, job.id, epochs=9)
    assert done_next(sessions, claim, 2) == ["bo 1", "lin 1"]


@pytest.mark.parametrize("seed", range(6))
def test_positions_foresee_every_claim_while_no_job_ends(
    sessions: Sessions, claim: Claim, seed: int
) -> None:
    chance = random.Random(seed)
    owners, priorities = "abcde", (0, 0, 0, 1, -1)
    enqueue_all(
        sessions,
        [
            {"owner": chance.choice(owners), "priority": chance.choice(priorities)}
            for _ in range(60)
        ],
    )
    for _ in range(20):  # some ended, some at work, some interrupted
        job = claim()
        assert job is not None
        with sessions.begin() as session:
            what = chance.randrange(3)
            if what == 1:
                jobs.finish(session, jobs.fence_of(job), state=State.succeeded)
            elif what == 2:
                jobs.release(session, jobs.fence_of(job))
    foreseen = places(sessions)
    assert sorted(foreseen.values()) == list(range(1, len(foreseen) + 1))
    claimed = [job.id for job in iter(claim, None)]
    assert claimed == sorted(foreseen, key=foreseen.__getitem__)


def test_whether_a_job_waits_and_how_many_of_an_owner(
    sessions: Sessions, enqueue: Enqueue, claim: Claim
) -> None:
    def seen() -> tuple[bool, bool, int, int]:
        with sessions() as session:
            waits = (queue.is_waiting(session), queue.is_waiting(session, kinds=("export",)))
            return *waits, queue.length_of(session, "lin"), queue.length_of(session, "wu")

    assert seen() == (False, False, 0, 0)
    enqueue()
    enqueue()
    assert seen() == (True, False, 2, 0)
    claim()
    assert seen() == (True, False, 1, 0)
    claim()
    assert seen() == (False, False, 0, 0)
    enqueue(kind="export", owner="wu")
    assert seen() == (False, True, 0, 1)
    assert places(sessions) != {}


def test_the_first_in_line_and_what_it_asks_for(
    sessions: Sessions, enqueue: Enqueue, claim: Claim
) -> None:
    with sessions() as session:
        assert queue.first(session) is None
    enqueue()
    urgent = enqueue(priority=1)
    with sessions() as session:
        assert queue.first(session) == (urgent.id, urgent.recipe)
        assert queue.first(session, ("export",)) is None


def test_one_job_is_claimed_by_its_id_while_it_is_queued(
    sessions: Sessions, enqueue: Enqueue
) -> None:
    enqueue()
    second = enqueue().id
    who = {"worker_id": "w1", "host": "here", "device": "cpu"}

    with sessions.begin() as session:
        claimed = jobs.claim(session, **who, job_id=second)
        assert claimed is not None
        assert claimed.id == second
        assert jobs.claim(session, **who, job_id=second) is None


def test_each_lane_is_counted_for_itself(sessions: Sessions, enqueue: Enqueue) -> None:
    trains = [enqueue().id, enqueue().id]
    others = [enqueue(kind=kind).id for kind in ("import", "export")]

    assert places(sessions) == {trains[0]: 1, trains[1]: 2, others[0]: 1, others[1]: 2}


def test_an_empty_queue_has_no_positions(sessions: Sessions, enqueue: Enqueue) -> None:
    assert places(sessions) == {}
    job_id = enqueue().id
    with sessions.begin() as session:
        jobs.cancel(session, job_id)
    assert places(sessions) == {}


def test_the_queue_is_asked_without_a_look_at_what_is_to_be_done(
    sessions: Sessions, enqueue: Enqueue
) -> None:
    """A recipe is a long text, and an idle worker asks twenty times a second."""
    enqueue()
    plans: list[str] = []
    with sessions() as session:

        @event.listens_for(session.connection(), "before_cursor_execute")
        def explain(_1, cursor, statement, parameters, *_2) -> None:  # type: ignore[no-untyped-def]
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[3] for row in cursor.fetchall())

        queue.is_waiting(session)
        queue.positions(session)
        session.execute(queue.CLAIM_ORDER.where(queue.waiting.kind.in_(["train"])).limit(1))
    of_jobs = Counter(step for step in plans if step.startswith(("SEARCH jobs", "SEARCH waiting")))
    assert sum(of_jobs.values()) == 7
    for step in of_jobs:
        assert "USING COVERING INDEX ix_jobs_queue" in step
    assert not [step for step in plans if step.startswith("SCAN jobs")]
