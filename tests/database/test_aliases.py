"""Aliases: pointed, found, remembered, and held against deletion."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from database import aliases, checkpoints, ids, jobs
from database.tables import Checkpoint
from problems import Problem

Sessions = sessionmaker[Session]
Add = Callable[..., list[str]]


@pytest.fixture
def add(sessions: Sessions, running: jobs.Fence) -> Add:
    """Adds so many checkpoints to one job, each better than the one before."""

    def add(count: int = 1) -> list[str]:
        made = [ids.new("ckpt") for _ in range(count)]
        with sessions.begin() as session:
            for epoch, one in enumerate(made, 1):
                assert checkpoints.add(
                    session,
                    running,
                    checkpoint_id=one,
                    epoch=epoch,
                    val_accuracy=epoch / 10,
                    val_loss=0.5,
                    disk_bytes=1,
                )
        return made

    return add


def point(sessions: Sessions, alias: str, checkpoint_id: str, by: str = "lin") -> None:
    with sessions.begin() as session:
        aliases.point(session, alias, checkpoint_id, by=by)


def told(sessions: Sessions, alias: str) -> list[tuple[str, str]]:
    with sessions() as session:
        return [(p.checkpoint_id, p.updated_by) for p in aliases.history(session, [alias])[alias]]


def test_what_an_alias_pointed_at_is_kept_newest_first(sessions: Sessions, add: Add) -> None:
    first, second = add(2)
    point(sessions, "production", first)
    point(sessions, "production", second, by="wei")
    point(sessions, "staging", second)

    with sessions() as session:
        found = aliases.get(session, "production")
        assert (found.checkpoint_id, found.updated_by) == (second, "wei")
        assert [row.name for row in aliases.find(session).items] == ["production", "staging"]
    assert told(sessions, "production") == [(second, "wei"), (first, "lin")]
    assert told(sessions, "staging") == [(second, "lin")]


def test_pointing_where_it_points_already_changes_nothing(sessions: Sessions, add: Add) -> None:
    [one] = add()
    point(sessions, "production", one)
    with sessions() as session:
        before = aliases.get(session, "production").updated_at
    point(sessions, "production", one, by="wei")
    with sessions() as session:
        assert aliases.get(session, "production").updated_at == before
    assert told(sessions, "production") == [(one, "lin")]


def test_only_so_much_is_shown(sessions: Sessions, add: Add) -> None:
    two = add(2)
    for turn in range(aliases.SHOWN + 3):
        point(sessions, "a", two[turn % 2])
    assert len(told(sessions, "a")) == aliases.SHOWN


def test_pages(sessions: Sessions, add: Add) -> None:
    [one] = add()
    for name in ("c", "a", "b"):
        point(sessions, name, one)
    with sessions() as session:
        first = aliases.find(session, limit=2)
        rest = aliases.find(session, limit=2, cursor=first.next_cursor)
    assert [row.name for row in first.items + rest.items] == ["a", "b", "c"]
    assert rest.next_cursor is None


def test_names_are_meant_without_case_and_dashes(sessions: Sessions, add: Add) -> None:
    one, other = add(2)
    point(sessions, "my-cats", one)
    with sessions() as session:
        assert aliases.meant(session, "My_Cats").name == "my-cats"
    point(sessions, "mycats", other)
    with sessions() as session:
        assert aliases.meant(session, "mycats").name == "mycats"
        assert aliases.meant(session, "my-cats").name == "my-cats"
        with pytest.raises(Problem) as caught:
            aliases.meant(session, "my-dogs")
    assert caught.value.code == "model_not_found"
    assert "my-cats" in caught.value.hint


def test_what_is_not_there_or_does_not_serve_is_refused(sessions: Sessions, add: Add) -> None:
    [one] = add()
    with sessions.begin() as session:
        session.execute(update(Checkpoint).values(parity=False))
    for checkpoint_id, code in ((ids.new("ckpt"), "checkpoint_not_found"), (one, "parity_failed")):
        with pytest.raises(Problem) as caught:
            point(sessions, "production", checkpoint_id)
        assert caught.value.code == code
    assert told(sessions, "production") == []


def test_a_removed_alias_comes_back_with_its_history(sessions: Sessions, add: Add) -> None:
    first, second = add(2)
    point(sessions, "production", first)
    with sessions.begin() as session:
        aliases.remove(session, "production")
        with pytest.raises(Problem) as caught:
            aliases.remove(session, "production")
    assert caught.value.code == "model_not_found"
    point(sessions, "production", second)
    assert told(sessions, "production") == [(second, "lin"), (first, "lin")]


def test_what_an_alias_points_at_is_neither_pruned_nor_deleted(
    sessions: Sessions, add: Add, running: jobs.Fence
) -> None:
    made = add(4)
    point(sessions, "production", made[1])
    with sessions.begin() as session:
        assert checkpoints.prunable(session, running.job_id, keep=1) == [made[0], made[2]]
        with pytest.raises(Problem) as caught:
            aliases.refuse_if_pointed_at(session, made)
    assert caught.value.code == "checkpoint_in_use"
    assert "production" in caught.value.detail
    with pytest.raises(IntegrityError), sessions.begin() as session:
        checkpoints.remove(session, made[1])
    with sessions.begin() as session:
        jobs.finish(session, running, state=jobs.State.succeeded)
    with pytest.raises(IntegrityError), sessions.begin() as session:
        jobs.remove(session, running.job_id)
    with sessions.begin() as session:
        aliases.release(session, made[1])
        aliases.refuse_if_pointed_at(session, made)
        assert checkpoints.remove(session, made[1])
    assert told(sessions, "production") == [(made[1], "lin")]


def test_all_at_once_one_comes_last(sessions: Sessions, engine: Engine, add: Add) -> None:
    made = add(8)
    ready = threading.Barrier(len(made))

    def work(one: str) -> None:
        ready.wait()
        point(sessions, "production", one)

    threads = [threading.Thread(target=work, args=[one]) for one in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with sessions() as session:
        last = aliases.get(session, "production").checkpoint_id
    kept = [checkpoint_id for checkpoint_id, _ in told(sessions, "production")]
    assert sorted(kept) == sorted(made)
    assert kept[0] == last
