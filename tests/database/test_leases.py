import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import pytest
from sqlalchemy import Engine, update
from sqlalchemy.orm import Session, sessionmaker

from database import engine as engines
from database import jobs
from database.jobs import Fence, State
from database.leases import LEASE_SECONDS, LOOK_SECONDS, Watch
from database.tables import Job

Sessions = sessionmaker[Session]
JobIn = Callable[..., tuple[str, Fence]]
A_DAY = 24 * 3600.0


@pytest.fixture
def watch(sessions: Sessions) -> Watch:
    return Watch(sessions, sessions)


@pytest.fixture
def beat(sessions: Sessions) -> Callable[[Fence], None]:
    def beat(fence: Fence) -> None:
        with sessions.begin() as session:
            assert jobs.heartbeat(session, fence) is not None

    return beat


def look(watch: Watch, moments: Iterable[float]) -> dict[float, list[str]]:
    """What was given up, by the moment of the look that did it."""
    return {now: lost for now in moments if (lost := watch.give_up_silent(now))}


def every_two_seconds(start: float, seconds: float) -> list[float]:
    return [start + LOOK_SECONDS * number for number in range(int(seconds / LOOK_SECONDS) + 1)]


@pytest.mark.parametrize("state", [State.starting, State.running])
def test_a_silent_job_is_given_up_after_the_lease(
    sessions: Sessions,
    watch: Watch,
    job_in: JobIn,
    told: Callable[..., list[tuple[str, dict[str, object]]]],
    state: State,
) -> None:
    job_id, _ = job_in(state)
    assert look(watch, every_two_seconds(500.0, 60.0)) == {500.0 + LEASE_SECONDS: [job_id]}
    with sessions() as session:
        job = jobs.get(session, job_id)
    assert (job.state, job.attempt, job.losses) == (State.queued, 2, 1)
    assert told(job_id)[-1][1]["reason"] == "nothing was heard of its worker"


def test_a_silent_job_that_was_to_be_cancelled_is_cancelled(
    watch: Watch, job_in: JobIn, state_of: Callable[[str], State]
) -> None:
    job_id, _ = job_in(State.cancelling)
    assert look(watch, every_two_seconds(0.0, 12.0)) == {LEASE_SECONDS: [job_id]}
    assert state_of(job_id) == State.cancelled


@pytest.mark.parametrize("state", [State.queued, *sorted(jobs.ENDED)])
def test_nobody_is_expected_to_be_heard_of_otherwise(
    watch: Watch, job_in: JobIn, state_of: Callable[[str], State], state: State
) -> None:
    job_id, _ = job_in(state)
    assert look(watch, every_two_seconds(0.0, 60.0)) == {}
    assert state_of(job_id) == state


@pytest.mark.parametrize("every", [1, 4])
def test_a_job_that_beats_is_never_given_up(
    watch: Watch, running: Fence, beat: Callable[[Fence], None], every: int
) -> None:
    for number, now in enumerate(every_two_seconds(0.0, 120.0)):
        if number % every == 0:
            beat(running)
        assert watch.give_up_silent(now) == []


def test_the_silent_one_of_two_is_given_up(
    watch: Watch, job_in: JobIn, beat: Callable[[Fence], None]
) -> None:
    (silent, _), (_, alive) = job_in(State.running), job_in(State.running)
    lost = []
    for now in every_two_seconds(0.0, 30.0):
        beat(alive)
        lost += watch.give_up_silent(now)
    assert lost == [silent]


def test_a_sign_of_life_at_the_last_moment_counts(
    engine: Engine, sessions: Sessions, running: Fence, beat: Callable[[Fence], None]
) -> None:
    class Late(sessionmaker[Session]):
        """The worker is heard of after the watcher has looked, before it gives the job up."""

        def begin(self) -> AbstractContextManager[Session]:
            beat(running)
            return super().begin()

    watch = Watch(sessions, Late(engine))
    assert look(watch, every_two_seconds(0.0, 60.0)) == {}
    with sessions() as session:
        job = jobs.get(session, running.job_id)
    assert (job.state, job.losses) == (State.running, 0)
    assert job.beat > 3, "it was about to be given up"


def test_many_watchers_count_one_loss(sessions: Sessions, running: Fence) -> None:
    watches = [Watch(sessions, sessions) for _ in range(4)]
    for watch in watches:
        assert look(watch, every_two_seconds(0.0, LEASE_SECONDS - LOOK_SECONDS)) == {}
    together, given_up = threading.Barrier(len(watches)), []

    def give_up(watch: Watch) -> None:
        together.wait()
        given_up.extend(watch.give_up_silent(LEASE_SECONDS))

    threads = [threading.Thread(target=give_up, args=(watch,)) for watch in watches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert given_up == [running.job_id]
    with sessions() as session:
        job = jobs.get(session, running.job_id)
    assert (job.attempt, job.losses) == (2, 1)


@pytest.mark.parametrize("gap", [3600.0, A_DAY])
def test_a_watcher_that_was_stopped_judges_nobody_by_what_it_missed(
    watch: Watch, running: Fence, beat: Callable[[Fence], None], gap: float
) -> None:
    assert look(watch, [0.0, 2.0]) == {}
    assert look(watch, [gap]) == {}, "the worker may have slept as well"
    beat(running)
    assert look(watch, every_two_seconds(gap + 2, 8.0)) == {}


def test_silence_that_goes_on_after_the_stop_is_a_loss(watch: Watch, running: Fence) -> None:
    assert look(watch, [0.0, 2.0]) == {}
    [(moment, lost)] = look(watch, every_two_seconds(3600.0, 30.0)).items()
    assert lost == [running.job_id]
    assert moment <= 3600.0 + LEASE_SECONDS


def test_a_new_watcher_waits_for_the_whole_lease(sessions: Sessions, running: Fence) -> None:
    assert look(Watch(sessions, sessions), every_two_seconds(0.0, 8.0)) == {}
    found = look(Watch(sessions, sessions), every_two_seconds(8.0, 12.0))
    assert found == {8.0 + LEASE_SECONDS: [running.job_id]}


def test_the_next_claim_begins_with_a_lease_of_its_own(
    sessions: Sessions, watch: Watch, running: Fence, claim: Callable[..., jobs.Job | None]
) -> None:
    assert look(watch, every_two_seconds(0.0, 8.0)) == {}
    with sessions.begin() as session:
        assert jobs.release(session, running)
    again = claim()
    assert again is not None
    with sessions.begin() as session:  # as many signs of life as the first claim had given
        jobs.get(session, running.job_id).beat = 2
    assert look(watch, every_two_seconds(10.0, 12.0)) == {20.0: [again.id]}


@pytest.mark.parametrize("written", [0.0, -1e12, 1e12, -A_DAY, A_DAY], ids=str)
def test_no_clock_on_any_wall_matters(
    sessions: Sessions,
    watch: Watch,
    job_in: JobIn,
    beat: Callable[[Fence], None],
    written: float,
) -> None:
    """Times in the rows are those of processes whose clocks may be wrong, or set meanwhile."""
    (silent, _), (_, alive) = job_in(State.running), job_in(State.running)
    at = written + time.time() if abs(written) == A_DAY else written
    lost: dict[float, list[str]] = {}
    for now in every_two_seconds(0.0, 20.0):
        with sessions.begin() as session:
            session.execute(update(Job).values(claimed_at=at))
        beat(alive)
        lost |= look(watch, [now])
    assert lost == {LEASE_SECONDS: [silent]}


def test_by_itself_it_goes_by_a_clock_that_is_never_set(
    sessions: Sessions, running: Fence, engine: Engine
) -> None:
    watch = Watch(engines.session_factory(engine, read_only=True), sessions, lease_seconds=0.05)
    assert watch.give_up_silent() == []
    deadline = time.monotonic() + 30
    lost: list[str] = []
    while not lost:
        assert time.monotonic() < deadline
        time.sleep(0.01)
        lost = watch.give_up_silent()
    assert lost == [running.job_id]
