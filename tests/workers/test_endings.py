import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from database import aliases, checkpoints, ids, jobs
from database.jobs import Fence, State
from models_store.recipe import Recipe
from workers import endings, processes
from workers.endings import Ending

Sessions = sessionmaker[Session]
Job = Callable[[Fence], jobs.Job]
ERROR = {"code": "training_failed", "message": "It broke.", "hint": ""}
WRITTEN: dict[str, Any] = {
    "claim": 2,
    "state": "failed",
    "stop_reason": None,
    "error": ERROR,
    "exception": "ValueError",
}


def test_what_the_child_wrote_is_how_it_ended(tmp_path: Path) -> None:
    processes.write(tmp_path / processes.EXIT_FILE, WRITTEN)

    assert endings.read(tmp_path, 2) == Ending("failed", error=ERROR)


def test_what_an_earlier_claim_wrote_is_not(tmp_path: Path) -> None:
    processes.write(tmp_path / processes.EXIT_FILE, WRITTEN)

    assert endings.read(tmp_path, 3) is None


@pytest.mark.parametrize(
    "written",
    [None, "", "{", "[2]", '{"claim": 2}', json.dumps({**WRITTEN, "state": "running"}), "\0" * 64],
)
def test_a_file_that_is_damaged_or_missing_says_nothing(
    tmp_path: Path, written: str | None
) -> None:
    if written is not None:
        (tmp_path / processes.EXIT_FILE).write_text(written)

    assert endings.read(tmp_path, 2) is None


def test_a_folder_that_is_none_says_nothing(tmp_path: Path) -> None:
    run = tmp_path / "job_1"
    run.write_text("somebody's file")

    assert endings.read(run, 2) is None


@pytest.mark.parametrize(
    ("upload", "left"),
    [("a", []), ("gone", ["a"]), (None, ["a"]), ("", ["a"]), ("..", ["a"]), ("../b", ["a"])],
)
def test_the_archive_of_an_import_that_has_ended_goes(
    sessions: Sessions, tmp_path: Path, upload: str | None, left: list[str]
) -> None:
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    for path in (uploads / "a", tmp_path / "b"):
        path.write_bytes(b"x")
    with sessions.begin() as session:
        request = {"upload": upload}
        job_id = jobs.enqueue(
            session, kind="import", dataset="pets", recipe=None, request=request, owner="lin"
        ).id
        endings.forget_archive(session, job_id, uploads)
        assert (uploads / "a").exists()
        jobs.cancel(session, job_id)

        endings.forget_archive(session, job_id, uploads)
        endings.forget_archive(session, "job_unknown", uploads)

    assert [path.name for path in uploads.iterdir()] == left
    assert (tmp_path / "b").exists()


def test_a_process_that_could_not_write_its_end_met_a_full_disk() -> None:
    ending = endings.of_exit_code(processes.UNWRITTEN)

    assert ending.state == "failed"
    assert ending.error is not None
    assert ending.error["code"] == "disk_full"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (-signal.SIGKILL, "its process was ended by signal 9 (Killed)"),
        (-signal.SIGSEGV, "its process was ended by signal 11 (Segmentation fault)"),
        (1, "its process ended with exit code 1"),
        (0, "its process ended with exit code 0"),
    ],
)
def test_an_end_without_a_word_is_a_loss_with_what_can_be_said(code: int, reason: str) -> None:
    assert endings.of_exit_code(code) == endings.lost(reason)


def write(sessions: Sessions, fence: Fence, ending: Ending) -> None:
    with sessions.begin() as session:
        endings.write(session, fence, ending)


def test_a_job_that_succeeded(sessions: Sessions, running: Fence, job: Job) -> None:
    write(sessions, running, Ending("succeeded", stop_reason="finished_early"))

    ended = job(running)
    assert (ended.state, ended.stop_reason) == (State.succeeded, "finished_early")
    assert (ended.error, ended.worker_id) == (None, None)


def test_a_job_that_failed(sessions: Sessions, running: Fence, job: Job) -> None:
    write(sessions, running, Ending("failed", error=ERROR))

    assert (job(running).state, job(running).error) == (State.failed, ERROR)


def test_a_job_that_was_released_is_queued_and_nothing_is_counted(
    sessions: Sessions, running: Fence, job: Job
) -> None:
    write(sessions, running, endings.RELEASED)

    queued = job(running)
    assert (queued.state, queued.attempt, queued.losses) == (State.queued, 1, 0)


def test_a_loss_counts_and_the_last_says_why(sessions: Sessions, running: Fence, job: Job) -> None:
    fence = running
    seen = []
    for number in range(1, 4):
        write(sessions, fence, endings.lost(f"for reason {number}"))
        seen.append((job(fence).state, job(fence).attempt, job(fence).losses))
        with sessions.begin() as session:
            again = jobs.claim(session, worker_id="w1", host="here", device="cpu")
            fence = fence if again is None else jobs.fence_of(again)

    assert seen == [(State.queued, 2, 1), (State.queued, 3, 2), (State.failed, 3, 3)]
    error = job(fence).error
    assert error is not None
    assert error["code"] == "worker_lost"
    assert "for reason 3" in error["message"]


@pytest.mark.parametrize(
    "ending", [endings.RELEASED, endings.lost("of a crash"), Ending("cancelled")]
)
def test_whatever_ends_a_job_that_is_cancelling_it_is_cancelled(
    sessions: Sessions, running: Fence, job: Job, ending: Ending
) -> None:
    with sessions.begin() as session:
        jobs.cancel(session, running.job_id)

    write(sessions, running, ending)

    assert job(running).state == State.cancelled


@pytest.mark.parametrize(
    "ending", [Ending("succeeded"), Ending("failed"), endings.RELEASED, endings.lost("of a crash")]
)
def test_the_end_of_a_lost_claim_changes_nothing(
    sessions: Sessions, running: Fence, job: Job, ending: Ending
) -> None:
    with sessions.begin() as session:
        jobs.release(session, running)
        assert jobs.claim(session, worker_id="w2", host="there", device="cpu")

    write(sessions, running, ending)

    assert (job(running).state, job(running).worker_id) == (State.starting, "w2")


def test_what_a_job_made_is_promoted_with_its_end_and_only_once(
    sessions: Sessions, claim: Callable[..., Fence], recipe: Callable[..., Recipe], job: Job
) -> None:
    """The second writing is that of a worker that did not know of the first, after a crash."""
    fence = claim(recipe(promote={"alias": "production"}))
    made = ids.new("ckpt")
    with sessions.begin() as session:
        assert jobs.start(session, fence, pid=7, device="cpu")
        checkpoints.add(
            session,
            fence,
            checkpoint_id=made,
            epoch=1,
            val_accuracy=0.9,
            val_loss=0.1,
            disk_bytes=1,
        )
        checkpoints.prove(session, fence, made, passed=True)

    with sessions() as session:  # a crash: nothing of it is committed
        endings.write(session, fence, Ending("succeeded", "completed"))
        assert aliases.names(session) == ["production"]

    assert job(fence).state is State.running
    with sessions() as session:
        assert aliases.names(session) == []

    for _ in range(2):
        with sessions.begin() as session:
            endings.write(session, fence, Ending("succeeded", "completed"))

    assert job(fence).state is State.succeeded
    with sessions() as session:
        assert aliases.get(session, "production").checkpoint_id == made
        assert len(aliases.history(session, ["production"])["production"]) == 1


@pytest.mark.parametrize("state", ["failed", "cancelled", "released", "lost"])
def test_no_other_end_promotes(
    sessions: Sessions, claim: Callable[..., Fence], recipe: Callable[..., Recipe], state: Any
) -> None:
    fence = claim(recipe(promote={"alias": "production", "if": "always"}))
    with sessions.begin() as session:
        endings.write(session, fence, Ending(state))
        assert aliases.names(session) == []
