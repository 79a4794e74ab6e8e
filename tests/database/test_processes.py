import time

from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from database import processes
from database.tables import Process

Sessions = sessionmaker[Session]


def alive(sessions: Sessions) -> list[tuple[str, int, str, str | None]]:
    with sessions() as session:
        found = processes.alive(session)
    return [(process.role, process.pid, process.host, process.job_id) for process in found]


def test_who_was_seen_is_alive_until_it_says_goodbye(sessions: Sessions) -> None:
    with sessions.begin() as session:
        processes.seen(session, role="supervisor", pid=1, host="a", info={"devices": ["cpu"]})
        processes.seen(session, role="child", pid=2, host="a", job_id="job_1", device="cpu")
        processes.seen(session, role="child", pid=2, host="b")
        processes.seen(session, role="child", pid=2, host="a", job_id="job_2")
    assert alive(sessions) == [
        ("child", 2, "a", "job_2"),
        ("child", 2, "b", None),
        ("supervisor", 1, "a", None),
    ]
    with sessions.begin() as session:
        info = processes.alive(session)[-1].info
        assert info == {"boot": processes.boot_id(), "devices": ["cpu"]}
        processes.forget(session, pid=2, host="a")
        processes.forget(session, pid=99, host="a")
    assert len(alive(sessions)) == 2


def test_machines_are_told_apart_by_their_boot(sessions: Sessions) -> None:
    with sessions.begin() as session:
        assert processes.of_other_machines(session) == []
        processes.seen(session, role="server", pid=1, host="here")
        processes.seen(session, role="server", pid=1, host="another container of this machine")
        assert processes.of_other_machines(session) == []
        for role, pid in (("server", 1), ("supervisor", 2)):
            processes.seen(session, role=role, pid=pid, host="塔", info={"boot": "another"})
        assert processes.of_other_machines(session) == ["塔"]
        # Written by an older danlu, which says nothing of it.
        session.execute(update(Process).values(info={}))
        assert processes.of_other_machines(session) == []


def test_a_clock_that_was_set_makes_nobody_alive_or_dead_for_long(sessions: Sessions) -> None:
    with sessions.begin() as session:
        for pid in (1, 2, 3):
            processes.seen(session, role="server", pid=pid, host="a")
        # Written before the clock was set back a little, and a day.
        for pid, ahead_seconds in ((1, 10), (2, 24 * 3600)):
            row = update(Process).where(Process.pid == pid)
            session.execute(row.values(seen_at=time.time() + ahead_seconds))
    assert [pid for _, pid, _, _ in alive(sessions)] == [1, 3]
    with sessions.begin() as session:
        processes.seen(session, role="server", pid=2, host="a")
    assert [pid for _, pid, _, _ in alive(sessions)] == [1, 2, 3]


def test_who_is_silent_is_not_alive_and_in_the_end_forgotten(sessions: Sessions) -> None:
    with sessions.begin() as session:
        for pid in (1, 2):
            processes.seen(session, role="server", pid=pid, host="a")
        for pid, silent_seconds in ((1, 60), (2, 100_000)):
            row = update(Process).where(Process.pid == pid)
            session.execute(row.values(seen_at=time.time() - silent_seconds))
    assert alive(sessions) == []
    with sessions.begin() as session:
        assert len(processes.alive(session, within_seconds=90)) == 1
        processes.seen(session, role="server", pid=3, host="a")
        assert [row.pid for row in processes.alive(session, within_seconds=1e6)] == [1, 3]
