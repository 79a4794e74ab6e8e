from collections.abc import Callable

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session, sessionmaker

from database import jobs, listing
from database.jobs import State
from problems import Problem

Sessions = sessionmaker[Session]


def names(sessions: Sessions, **filters: object) -> list[str | None]:
    """Names of all pages of two, one after another."""
    found: list[str | None] = []
    cursor = None
    while True:
        with sessions() as session:
            page = jobs.find(session, limit=2, cursor=cursor, **filters)  # type: ignore[arg-type]
        assert len(page.items) == 2 or page.next_cursor is None
        found += [job.name for job in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.fixture
def seven(sessions: Sessions, enqueue: Callable[..., jobs.Job]) -> str:
    accuracies = [0.5, None, 0.9, 0.5, None, 0.1, 0.9]
    for name, accuracy in zip("abcdefg", accuracies, strict=True):
        job_id = enqueue(name=name).id
        with sessions.begin() as session:
            jobs.get(session, job_id).best_val_accuracy = accuracy
    return "abcdefg"


def test_pages_lead_through_the_whole_list_in_order(sessions: Sessions, seven: str) -> None:
    assert names(sessions) == [*reversed(seven)]
    assert names(sessions, sort="created_at") == [*seven]
    assert names(sessions, sort="-best_val_accuracy") == [*"gcdafeb"]


def test_a_job_made_meanwhile_shifts_no_page(
    sessions: Sessions, seven: str, enqueue: Callable[..., jobs.Job]
) -> None:
    with sessions() as session:
        first = jobs.find(session, limit=3)
    enqueue(name="new")
    with sessions() as session:
        second = jobs.find(session, limit=3, cursor=first.next_cursor)
    assert [job.name for job in (*first.items, *second.items)] == [*"gfedcb"]


def test_filters(sessions: Sessions, enqueue: Callable[..., jobs.Job]) -> None:
    enqueue(name="a", owner="wu", dataset="猫", tags=["x", "y"])
    enqueue(name="b", kind="import", recipe=None, tags=["y"])
    enqueue(name="c", owner="wu")
    with sessions.begin() as session:
        jobs.cancel(session, jobs.find(session, owner="wu").items[0].id)
    assert names(sessions, owner="wu") == ["c", "a"]
    assert names(sessions, owner="wu", dataset="猫") == ["a"]
    assert names(sessions, kind="import") == ["b"]
    assert names(sessions, tag="y") == ["b", "a"]
    assert names(sessions, tag="y", owner="lin") == ["b"]
    assert names(sessions, states=[State.cancelled, State.running]) == ["c"]
    assert names(sessions, states=[]) == []
    assert names(sessions, tag="' OR 1=1") == []


def test_an_unknown_order_and_a_cursor_of_another(sessions: Sessions, seven: str) -> None:
    with sessions() as session:
        cursor = jobs.find(session, limit=1).next_cursor
        for wrong in ({"sort": "id; DROP TABLE jobs"}, {"sort": "created_at", "cursor": cursor}):
            with pytest.raises(Problem) as caught:
                jobs.find(session, **wrong)  # type: ignore[arg-type]
            assert caught.value.code == "invalid_request"


@pytest.mark.parametrize(
    "filters",
    [
        *({"sort": sort} for sort in listing.SORTS),
        *({name: "x"} for name in ("kind", "owner", "dataset", "tag")),
        {"states": [State.queued]},
    ],
    ids=str,
)
def test_every_list_is_led_by_an_index(sessions: Sessions, filters: dict[str, object]) -> None:
    plans: list[str] = []

    with sessions() as session:
        connection = session.connection()

        @event.listens_for(connection, "before_cursor_execute")
        def explain(_1, cursor, statement, parameters, *_2) -> None:  # type: ignore[no-untyped-def]
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[3] for row in cursor.fetchall())

        jobs.find(session, **filters)  # type: ignore[arg-type]
    searches = [step for step in plans if not step.startswith("USE TEMP B-TREE")]
    assert searches
    for step in searches:
        assert "USING INDEX" in step or "USING COVERING INDEX" in step
    assert searches == plans or "tag" in filters, "few jobs have a tag: those are sorted"


def test_jobs_are_counted_by_state(sessions: Sessions, enqueue: Callable[..., jobs.Job]) -> None:
    with sessions.begin() as session:
        assert jobs.counts(session) == {}
    made = [enqueue() for _ in range(3)]
    with sessions.begin() as session:
        jobs.cancel(session, made[0].id)
    with sessions.begin() as session:
        assert jobs.counts(session) == {State.queued: 2, State.cancelled: 1}
