import re
import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session, sessionmaker

from database import checkpoints, claims, events, history, ids, jobs
from database.jobs import Fence, State

Sessions = sessionmaker[Session]
Claim = Callable[..., jobs.Job | None]
Enqueue = Callable[..., jobs.Job]
JobIn = Callable[..., tuple[str, Fence]]
Told = Callable[..., list[tuple[str, dict[str, object]]]]


def claimed(claim: Claim, **given: object) -> Fence:
    job = claim(**given)
    assert job is not None
    return jobs.fence_of(job)


def lose(sessions: Sessions, fence: Fence, *, silent: bool = False) -> bool:
    with sessions.begin() as session:
        if not silent:
            return jobs.lose(session, fence, reason="ended by SIGKILL")
        beat = jobs.get(session, fence.job_id).beat
        return claims.lose_silent(session, fence.job_id, claim=fence.claim, beat=beat)


def test_a_claim_says_whose_it_is_and_since_when(enqueue: Enqueue, claim: Claim) -> None:
    job_id = enqueue().id
    before = time.time()
    job = claim("w7", host="塔", device="cuda:1")
    assert job is not None
    assert (job.id, job.state, job.claim, job.attempt) == (job_id, "starting", 1, 1)
    assert (job.worker_id, job.worker_host, job.worker_pid) == ("w7", "塔", None)
    assert job.device == "cuda:1"
    assert job.claimed_at is not None
    assert before <= job.claimed_at <= time.time()
    assert claim() is None


def test_only_the_kinds_asked_for_are_claimed(enqueue: Enqueue, claim: Claim) -> None:
    enqueue(kind="import", recipe=None)
    assert claim() is None
    assert claim(kinds=("import", "export")) is not None


def test_a_job_that_nobody_has_gives_no_fence(enqueue: Enqueue) -> None:
    with pytest.raises(ValueError, match="no worker has"):
        jobs.fence_of(enqueue())


def test_four_processes_claim_sixty_jobs_and_none_twice(
    url: str, sessions: Sessions, enqueue: Enqueue, at_once: Callable[..., list[list[str]]]
) -> None:
    expected = {enqueue(owner=f"owner {number % 3}").id for number in range(60)}
    taken = at_once("claim", url, 4)
    assert sorted(job_id for of_one in taken for job_id in of_one) == sorted(expected)
    with sessions() as session:
        rows = jobs.find(session, limit=100).items
    assert {(job.state, job.claim) for job in rows} == {(State.succeeded, 1)}


def test_two_threads_claim_one_job(enqueue: Enqueue, claim: Claim) -> None:
    enqueue()
    barrier = threading.Barrier(2)
    got: list[jobs.Job | None] = []

    def try_it(worker_id: str) -> None:
        barrier.wait()
        got.append(claim(worker_id))

    threads = [threading.Thread(target=try_it, args=(name,)) for name in ("w1", "w2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [job is None for job in got].count(True) == 1


def test_start_keeps_the_time_of_the_first_start(
    sessions: Sessions, enqueue: Enqueue, claim: Claim
) -> None:
    enqueue()
    starts = []
    for pid in (11, 12):
        fence = claimed(claim)
        with sessions.begin() as session:
            assert jobs.start(session, fence, pid=pid, device="cpu")
            assert not jobs.start(session, fence, pid=pid, device="cpu"), "already running"
            job = jobs.get(session, fence.job_id)
            starts.append((job.state, job.worker_pid, job.started_at))
            assert jobs.release(session, fence)
    assert [state for state, _, _ in starts] == [State.running] * 2
    assert [pid for _, pid, _ in starts] == [11, 12]
    assert starts[0][2] == starts[1][2] is not None


def test_a_job_cancelled_before_its_start_does_not_start(sessions: Sessions, job_in: JobIn) -> None:
    job_id, fence = job_in(State.starting)
    with sessions.begin() as session:
        jobs.cancel(session, job_id)
        assert not jobs.start(session, fence, pid=1, device="cpu")
        assert jobs.heartbeat(session, fence) == (State.cancelling, False)


def test_every_sign_of_life_is_counted_and_answered(sessions: Sessions, job_in: JobIn) -> None:
    job_id, fence = job_in(State.starting)

    def beat() -> int:
        with sessions() as session:
            return jobs.get(session, job_id).beat

    beats = [beat()]
    with sessions.begin() as session:
        assert jobs.start(session, fence, pid=1, device="cpu")
    beats.append(beat())
    with sessions.begin() as session:
        assert jobs.heartbeat(session, fence) == jobs.Orders(State.running, finishing=False)
    beats.append(beat())
    with sessions.begin() as session:
        jobs.finish_early(session, job_id)
        told = jobs.progress(session, fence, progress={})
    assert told == jobs.Orders(State.running, finishing=True)
    beats.append(beat())
    assert beats == [beats[0], beats[0] + 1, beats[0] + 2, beats[0] + 3]
    with sessions.begin() as session:
        assert jobs.assign(session, fence, device=None)
    assert beat() == beats[-1], "where it computes says nothing of the process itself"


def test_what_a_worker_tells_is_kept(sessions: Sessions, running: Fence) -> None:
    with sessions.begin() as session:
        assert jobs.assign(session, running, device=None)
        told = jobs.progress(session, running, progress={"epoch": 1}, metrics={"train_loss": 0.5})
        assert told == (State.running, False)
        assert jobs.progress(session, running, progress={"epoch": 2}) == (State.running, False)
        assert jobs.describe(session, running, dataset_version="v1")
        assert jobs.describe(session, running, warnings=[{"code": "validation_tiny"}])
    with sessions() as session:
        job = jobs.get(session, running.job_id)
    assert (job.device, job.progress, job.metrics) == (None, {"epoch": 2}, {"train_loss": 0.5})
    assert job.dataset_version == "v1"
    assert job.warnings == [{"code": "validation_tiny"}]


@pytest.mark.parametrize("state", sorted(jobs.ENDED))
@pytest.mark.parametrize("before", sorted(jobs.AT_WORK))
def test_finish_from_every_state_at_work(
    sessions: Sessions, job_in: JobIn, before: State, state: State
) -> None:
    _, fence = job_in(before)
    error = {"code": "disk_full", "message": "full", "hint": None}
    with sessions.begin() as session:
        assert jobs.finish(session, fence, state=state, stop_reason="completed", error=error)
        job = jobs.get(session, fence.job_id)
    assert (job.state, job.stop_reason, job.error) == (state, "completed", error)
    assert job.finished_at is not None
    assert (job.worker_id, job.worker_host, job.worker_pid) == (None, None, None)
    assert (job.claimed_at, job.device) == (None, "cpu")


def assert_fenced_off(sessions: Sessions, fence: Fence) -> None:
    """Every door of a worker is closed to this fence, none changes the row or tells of anything."""
    with sessions() as session:
        before = jobs.get(session, fence.job_id)
        newest = events.newest(session)
    with sessions.begin() as session:
        assert not jobs.start(session, fence, pid=1, device="x")
        assert not jobs.assign(session, fence, device="x")
        assert jobs.heartbeat(session, fence) is None
        assert jobs.progress(session, fence, progress={"x": 1}) is None
        assert not jobs.describe(session, fence, dataset_version="x")
        assert not jobs.finish(session, fence, state=State.succeeded)
        assert not jobs.release(session, fence)
        assert not jobs.lose(session, fence, reason="x")
        assert claims.hold(session, fence) is None
        claims.further(session, fence)
        assert not history.add_epoch(session, fence, {"epoch": 1})
        assert not history.add_log(session, fence, "x")
        assert not history.add_step(session, fence, {"epoch": 1, "step": 1})
        assert not checkpoints.add(
            session,
            fence,
            checkpoint_id=ids.new("ckpt"),
            epoch=1,
            val_accuracy=1.0,
            val_loss=0.0,
            disk_bytes=1,
        )
    with sessions() as session:
        after = jobs.get(session, fence.job_id)
        assert not history.epochs(session, fence.job_id)
        assert not checkpoints.of_job(session, fence.job_id)
        assert events.newest(session) == newest
    columns = [column.key for column in jobs.Job.__table__.columns]
    assert [getattr(before, name) for name in columns] == [getattr(after, name) for name in columns]


def test_a_worker_given_up_for_dead_cannot_write(
    sessions: Sessions, running: Fence, claim: Claim
) -> None:
    with sessions.begin() as session:
        beat = jobs.get(session, running.job_id).beat
        assert claims.lose_silent(session, running.job_id, claim=running.claim, beat=beat)
    assert_fenced_off(sessions, running)
    again = claimed(claim)  # by the same worker
    assert (again.job_id, again.claim) == (running.job_id, 2)
    assert_fenced_off(sessions, running)
    with sessions.begin() as session:
        assert jobs.start(session, again, pid=9, device="cpu")


def test_nothing_is_written_about_a_job_that_ended(sessions: Sessions, job_in: JobIn) -> None:
    assert_fenced_off(sessions, job_in(State.succeeded)[1])


@pytest.mark.parametrize("state", sorted(jobs.AT_WORK))
def test_only_a_silent_holder_of_the_claim_is_given_up(
    sessions: Sessions, job_in: JobIn, state: State
) -> None:
    job_id, fence = job_in(state)
    with sessions.begin() as session:
        heard = jobs.get(session, job_id).beat
        jobs.heartbeat(session, fence)
    with sessions.begin() as session:
        assert not claims.lose_silent(session, job_id, claim=fence.claim, beat=heard)
        assert not claims.lose_silent(session, job_id, claim=fence.claim - 1, beat=heard + 1)
        assert jobs.heartbeat(session, fence) == (state, False), "nothing has changed"
        assert claims.lose_silent(session, job_id, claim=fence.claim, beat=heard + 2)
        assert not claims.lose_silent(session, job_id, claim=fence.claim, beat=heard + 2)
        assert jobs.get(session, job_id).losses == 1


@pytest.mark.parametrize("state", [State.queued, *sorted(jobs.ENDED)])
def test_a_job_that_nobody_works_on_is_not_given_up(
    sessions: Sessions, job_in: JobIn, state: State
) -> None:
    job_id, _ = job_in(state)
    with sessions.begin() as session:
        job = jobs.get(session, job_id)
        assert not claims.lose_silent(session, job_id, claim=job.claim, beat=job.beat)
    with sessions() as session:
        assert (jobs.get(session, job_id).state, jobs.get(session, job_id).losses) == (state, 0)


def test_a_lost_job_is_queued_again_as_its_next_attempt(
    sessions: Sessions, running: Fence, told: Told
) -> None:
    with sessions.begin() as session:
        jobs.progress(session, running, progress={"epoch": 2}, metrics={"train_loss": 1.0})
        assert jobs.lose(session, running, reason="ended by SIGKILL")
        job = jobs.get(session, running.job_id)
    assert (job.state, job.attempt, job.losses, job.claim) == (State.queued, 2, 1, 1)
    assert (job.worker_id, job.claimed_at, job.device, job.progress) == (None,) * 4
    assert job.interrupted
    assert job.metrics == {"train_loss": 1.0}
    assert job.started_at is not None
    assert (job.finished_at, job.error) == (None, None)
    last = {"state": "queued", "attempt": 2, "reason": "ended by SIGKILL"}
    assert told(running.job_id)[-1] == ("state", last)


@pytest.mark.parametrize("silent", [True, False])
def test_the_third_loss_fails_the_job(
    sessions: Sessions, enqueue: Enqueue, claim: Claim, silent: bool
) -> None:
    job_id = enqueue().id
    for _ in range(claims.MAX_LOSSES):
        assert lose(sessions, claimed(claim), silent=silent)
    with sessions() as session:
        job = jobs.get(session, job_id)
    assert (job.state, job.attempt, job.losses) == (State.failed, 3, 3)
    assert job.error is not None
    assert job.error["code"] == "worker_lost"
    reason = "nothing was heard of its worker" if silent else "ended by SIGKILL"
    assert re.search(rf"lost 3 times .* {reason}", job.error["message"])
    assert job.error["hint"]
    assert job.finished_at is not None
    assert (job.worker_id, job.interrupted) == (None, False)
    assert claim() is None


def test_a_job_that_gets_further_each_time_is_never_given_up_for_good(
    sessions: Sessions, enqueue: Enqueue, claim: Claim
) -> None:
    job_id = enqueue().id
    for epoch in range(1, 8):
        fence = claimed(claim)
        with sessions.begin() as session:
            jobs.start(session, fence, pid=1, device="cpu")
            history.add_epoch(session, fence, {"epoch": epoch})
        lose(sessions, fence)
    with sessions() as session:
        job = jobs.get(session, job_id)
    assert (job.state, job.attempt, job.losses) == (State.queued, 8, 1)


def test_a_job_that_gets_as_far_as_before_and_no_further_fails(
    sessions: Sessions, enqueue: Enqueue, claim: Claim
) -> None:
    job_id = enqueue().id
    for _ in range(claims.MAX_LOSSES):
        fence = claimed(claim)
        with sessions.begin() as session:
            for epoch in (1, 2):
                history.add_epoch(session, fence, {"epoch": epoch})
        lose(sessions, fence)
    with sessions() as session:
        assert jobs.get(session, job_id).state == State.failed


@pytest.mark.parametrize(("steady_seconds", "losses"), [(3590, 3), (3610, 1)])
def test_an_hour_of_progress_wipes_out_earlier_losses(
    sessions: Sessions, enqueue: Enqueue, claim: Claim, steady_seconds: float, losses: int
) -> None:
    enqueue()
    for _ in range(2):
        lose(sessions, claimed(claim))
    fence = claimed(claim)
    with sessions.begin() as session:
        jobs.get(session, fence.job_id).claimed_at = time.time() - steady_seconds
    with sessions.begin() as session:
        jobs.progress(session, fence, progress={})
    assert lose(sessions, fence)
    with sessions() as session:
        job = jobs.get(session, fence.job_id)
    assert job.losses == losses
    assert job.state == (State.failed if losses == claims.MAX_LOSSES else State.queued)


@pytest.mark.parametrize("door", ["lose", "lose_silent", "release"])
def test_a_job_being_cancelled_is_cancelled_when_its_worker_goes(
    sessions: Sessions, job_in: JobIn, told: Told, door: str
) -> None:
    job_id, fence = job_in(State.cancelling)
    if door == "release":
        with sessions.begin() as session:
            assert jobs.release(session, fence)
    else:
        assert lose(sessions, fence, silent=door == "lose_silent")
    with sessions() as session:
        job = jobs.get(session, job_id)
    assert (job.state, job.error, job.worker_id) == (State.cancelled, None, None)
    assert (job.attempt, job.interrupted) == (1, False)
    assert job.finished_at is not None
    assert [type_ for type_, _ in told(job_id)[-2:]] == ["state", "end"]


@pytest.mark.parametrize("state", [State.starting, State.running])
def test_a_planned_stop_counts_no_attempt(
    sessions: Sessions, job_in: JobIn, claim: Claim, state: State
) -> None:
    job_id, fence = job_in(state)
    with sessions.begin() as session:
        assert jobs.release(session, fence)
        job = jobs.get(session, job_id)
    assert (job.state, job.attempt, job.losses) == (State.queued, 1, 0)
    assert (job.worker_id, job.device, job.finished_at) == (None, None, None)
    assert job.interrupted
    assert claimed(claim).claim == 2


def test_a_worker_knows_the_claims_that_it_holds(
    sessions: Sessions, job_in: JobIn, claim: Claim, enqueue: Enqueue
) -> None:
    held = {job_in(state)[1]: state for state in (State.starting, State.cancelling)}
    job_in(State.failed)
    enqueue()
    assert claimed(claim, worker_id="w2") not in held
    with sessions() as session:
        assert jobs.held_by(session, "w1") == held
        assert jobs.held_by(session, "w3") == {}


def test_a_worker_finds_what_others_left_on_its_host(
    sessions: Sessions, enqueue: Enqueue, claim: Claim, job_in: JobIn
) -> None:
    _, ended = job_in(State.succeeded)
    enqueue()
    enqueue()
    enqueue()
    left, own = claimed(claim, worker_id="w0"), claimed(claim, worker_id="w1")
    elsewhere = claimed(claim, worker_id="w2", host="there")
    with sessions() as session:
        assert jobs.left_behind(session, host="here", but="w1") == [left]
        assert jobs.left_behind(session, host="there", but="w1") == [elsewhere]
        assert jobs.left_behind(session, host="nowhere", but="w1") == []
    assert ended not in (left, own)
