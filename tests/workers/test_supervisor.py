import contextlib
import io
import os
import signal
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from database import checkpoints, events, history, jobs
from database.jobs import State
from problems import Problem
from workers import processes
from workers.claiming import MAX_WITHOUT_DEVICE

NewWorker = Callable[..., Any]
Until = Callable[..., Any]
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="processes are seen in /proc"),
    pytest.mark.xdist_group("supervisor"),  # what they share is made once
]
# Never done before the test is, and few enough files.
LONG = {"epochs": 100_000, "checkpoints": {"keep": 2}}


@pytest.fixture(scope="module")
def stuck() -> Iterator[str]:
    """A proxy that promises every file and never gives one: a download that does not end."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.flush()
            over.wait()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    over.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def shared(new_worker: NewWorker, until: Until, stuck: str) -> Any:
    """A worker for all tests of this module that leave it as it was."""
    worker = new_worker(http_proxy=stuck, HTTP_PROXY=stuck, no_proxy="", NO_PROXY="")
    worker.start()
    until(lambda: worker.pid("forkserver"), seconds=90)
    return worker


@pytest.fixture
def worker(shared: Any, until: Until) -> Iterator[Any]:
    """The shared worker with nothing to do, before and after."""

    def active() -> list[str]:
        with shared.sessions() as session:
            return [job.id for job in jobs.find(session, states=list(jobs.ACTIVE)).items]

    yield shared
    for job_id in active():
        with contextlib.suppress(Problem):  # it ended by itself just now
            shared.cancel(job_id)
    until(lambda: not active())


def saved(worker: Any, job_id: str) -> list[str]:
    with worker.sessions() as session:
        return [row.id for row in checkpoints.of_job(session, job_id)]


@pytest.fixture
def training(until: Until) -> Callable[[Any], tuple[str, int]]:
    """A long job that has its first checkpoint: its id and the pid of its child."""

    def training(worker: Any, **given: Any) -> tuple[str, int]:
        job_id = worker.submit(**(LONG | given))
        until(lambda: saved(worker, job_id), seconds=90)
        return job_id, worker.job(job_id).worker_pid

    return training


Training = Callable[..., tuple[str, int]]


def ended(worker: Any, job_id: str) -> jobs.Job | None:
    job = worker.job(job_id)
    return job if job.state in jobs.ENDED else None


def ended_by_itself(worker: Any, job_id: str) -> bool:
    """Whatever it heard first, the word or the signal: force leaves none behind."""
    said = processes.read(worker.home / "runs" / job_id / processes.EXIT_FILE)
    return said is not None and said["state"] in ("cancelled", "released")


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_jobs_run_one_after_another_to_their_ends(worker: Any, until: Until) -> None:
    first, second = worker.submit(epochs=2), worker.submit(epochs=1, seed=1)

    job = until(lambda: ended(worker, first))
    until(lambda: ended(worker, second))

    assert (job.state, job.stop_reason, job.error) == (State.succeeded, "completed", None)
    assert (job.attempt, job.losses, job.worker_id, job.worker_pid) == (1, 0, None, None)
    assert job.finished_at > job.started_at > job.created_at
    one_device = "," not in worker.log().partition("ready: ")[2].partition("\n")[0]
    assert worker.job(second).started_at >= job.finished_at or not one_device
    assert job.metrics["test_accuracy"] > 0.5
    assert len(saved(worker, first)) == 2
    for checkpoint_id in saved(worker, first):
        assert (worker.home / "checkpoints" / checkpoint_id / "manifest.json").is_file()
    assert "epoch 2/2: train loss" in (worker.home / "runs" / first / "log.txt").read_text()
    until(lambda: f"{first} succeeded" in worker.log())


def test_a_job_at_work_is_shown_with_its_process(
    worker: Any, training: Training, until: Until
) -> None:
    job_id, pid = training(worker)

    # Progress follows within half a second; a checkpoint may be there sooner.
    until(lambda: (worker.job(job_id).progress or {}).get("phase") == "training")
    job = worker.job(job_id)
    assert job.state == State.running
    assert worker.pid("child") == pid
    assert os.getsid(pid) == pid
    # A job on the CPU leaves the cores to the server that answers beside it.
    assert job.device != "cpu" or os.getpriority(os.PRIO_PROCESS, pid) >= 10


def test_a_cancel_ends_the_job_and_leaves_its_checkpoints(
    worker: Any, training: Training, until: Until
) -> None:
    job_id, pid = training(worker)

    worker.cancel(job_id)
    job = until(lambda: ended(worker, job_id))

    assert job.state == State.cancelled
    assert ended_by_itself(worker, job_id)
    assert not processes.is_running(pid)
    kept = saved(worker, job_id)
    assert kept
    assert all((worker.home / "checkpoints" / each / "manifest.json").is_file() for each in kept)
    assert job.best_checkpoint_id in kept


def test_a_child_that_does_not_heed_a_cancel_is_killed(
    worker: Any, training: Training, until: Until
) -> None:
    job_id, pid = training(worker)
    os.kill(pid, signal.SIGSTOP)

    worker.cancel(job_id)
    job = until(lambda: ended(worker, job_id))

    assert job.state == State.cancelled
    assert not processes.is_running(pid)
    # Else it would have been given up for its silence, in the end.
    assert f"{job_id}: its worker was lost" not in worker.log()


def numbers(worker: Any, job_id: str) -> dict[int, dict[int, tuple[float, ...]]]:
    """By attempt and epoch, to the bit."""
    found: dict[int, dict[int, tuple[float, ...]]] = {}
    with worker.sessions() as session:
        for row in history.epochs(session, job_id):
            measured = (row.train_loss, row.train_accuracy, row.val_loss, row.lr)
            found.setdefault(row.attempt, {})[row.epoch] = measured
    return found


def test_a_child_that_dies_is_tried_again_and_goes_on_where_it_was(
    worker: Any, until: Until
) -> None:
    # Of so many epochs that it is at work whenever it is looked at.
    recipe = LONG | {"checkpoints": {"keep": "all"}}
    job_id = worker.submit(**recipe)
    until(lambda: len(saved(worker, job_id)) >= 3, seconds=90)
    os.kill(worker.job(job_id).worker_pid, signal.SIGKILL)
    until(lambda: worker.job(job_id).attempt == 2)
    died = max(numbers(worker, job_id)[1])
    until(lambda: max(numbers(worker, job_id).get(2, [0])) > died, seconds=90)
    with worker.sessions.begin() as session:
        jobs.finish_early(session, job_id)
    job = until(lambda: ended(worker, job_id), seconds=90)

    # It got further than before, so the loss is forgiven.
    assert (job.state, job.attempt, job.losses) == (State.succeeded, 2, 0)
    first, second = numbers(worker, job_id).values()
    assert list(first) == list(range(1, died + 1))
    assert 2 <= min(second) <= died + 1  # in short epochs, from one a second before
    last = max(second)
    assert list(second) == list(range(min(second), last + 1))
    with worker.sessions() as session:
        kept = [row.epoch for row in checkpoints.of_job(session, job_id)]
    assert kept == list(range(1, last + 1))

    undisturbed = worker.submit(**recipe)
    until(lambda: max(numbers(worker, undisturbed).get(1, [0])) >= last, seconds=90)
    expected = numbers(worker, undisturbed)[1]
    assert first == {epoch: expected[epoch] for epoch in first}
    assert second == {epoch: expected[epoch] for epoch in second}


def test_a_child_that_is_stopped_is_given_up_and_its_job_goes_on(
    worker: Any, training: Training, until: Until
) -> None:
    job_id, pid = training(worker)
    os.kill(pid, signal.SIGSTOP)
    before = len(saved(worker, job_id))

    until(lambda: worker.job(job_id).attempt == 2)  # how long that takes: test_leases
    until(lambda: not processes.is_running(pid))
    until(lambda: max(numbers(worker, job_id).get(2, [0])) > before)

    assert min(numbers(worker, job_id)[2]) > 1
    with worker.sessions() as session:
        told = events.since(session, 0, job_id=job_id, limit=10_000)
    reasons = [one.data["reason"] for one in told if "reason" in one.data]
    assert reasons == ["nothing was heard of its worker"]


def test_a_job_that_is_to_finish_early_succeeds_with_what_it_has(
    worker: Any, training: Training, until: Until
) -> None:
    job_id, _ = training(worker)

    with worker.sessions.begin() as session:
        jobs.finish_early(session, job_id)
    job = until(lambda: ended(worker, job_id))

    assert (job.state, job.stop_reason) == (State.succeeded, "finished_early")
    assert job.metrics["test_accuracy"] is not None
    with worker.sessions() as session:
        last = checkpoints.newest_of(session, job_id).epoch
    assert last == max(numbers(worker, job_id)[1])


def test_a_job_that_cannot_write_how_it_ended_met_a_full_disk(
    worker: Any, training: Training, until: Until
) -> None:
    job_id, _ = training(worker)
    run = worker.home / "runs" / job_id
    run.rename(run.with_name("moved"))
    run.write_text("in its place")

    with worker.sessions.begin() as session:
        jobs.finish_early(session, job_id)  # which keeps the state at once
    job = until(lambda: ended(worker, job_id))

    assert (job.state, job.error["code"]) == (State.failed, "disk_full")
    until(lambda: f"{job_id} failed, exit code {processes.UNWRITTEN}" in worker.log())


def test_what_shares_the_batches_of_a_job_ends_with_it_and_it_with_that(
    worker: Any, training: Training, until: Until
) -> None:
    """First the one is killed, then the other, then the job is cancelled."""
    job_id, pid = training(worker, devices=2, device="cpu")
    (follower,) = until(lambda: members(pid) - {pid})
    os.kill(follower, signal.SIGKILL)

    until(lambda: worker.job(job_id).attempt == 2)
    assert not processes.is_running(pid)
    # And not that nothing was heard of it, which would take much longer.
    assert "the process of one of its devices ended" in reason(worker, job_id)
    log = (worker.home / "runs" / job_id / "log.txt").read_text()
    assert "the process of one of the devices was ended by signal 9 (Killed)" in log

    second = until(lambda: worker.job(job_id).worker_pid)
    before = max(numbers(worker, job_id)[1])
    until(lambda: max(numbers(worker, job_id).get(2, [0])) > before)
    (follower,) = members(second) - {second}
    os.kill(second, signal.SIGKILL)

    until(lambda: not processes.is_running(follower))
    third = until(lambda: worker.job(job_id).attempt == 3 and worker.job(job_id).worker_pid)
    (follower,) = until(lambda: members(third) - {third})
    worker.cancel(job_id)
    job = until(lambda: ended(worker, job_id))
    assert job.state == State.cancelled
    until(lambda: not members(third))


def members(session: int) -> set[int]:
    """Processes of a session that have not ended."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.add(int(stat.parent.name))
    return found


def reason(worker: Any, job_id: str) -> str:
    """What people were last told of why the job came back."""
    with worker.sessions() as session:
        told = events.since(session, 0, job_id=job_id, limit=100_000)
    return str([one.data["reason"] for one in told if "reason" in one.data][-1])


def test_several_devices_learn_and_too_many_are_refused(worker: Any, until: Until) -> None:
    one = worker.submit(epochs=2, precision="fp32")
    two = worker.submit(epochs=2, precision="fp32", devices=2, device="cpu")
    many = worker.submit(devices=32, device="cpu")

    jobs_ = [until(lambda job_id=job_id: ended(worker, job_id)) for job_id in (one, two, many)]

    assert [job.state for job in jobs_] == [State.succeeded, State.succeeded, State.failed]
    assert jobs_[2].error["code"] == "device_unavailable"
    alone, together = (job.metrics for job in jobs_[:2])
    assert together["val_loss"] == pytest.approx(alone["val_loss"], rel=0.05)
    assert together["test_accuracy"] == pytest.approx(alone["test_accuracy"], abs=0.02)
    assert len(saved(worker, two)) == 2
    assert not (worker.home / "runs" / two / "group").exists()


def test_a_forkserver_that_dies_is_started_again(
    worker: Any, training: Training, until: Until
) -> None:
    job_id, pid = training(worker)
    os.kill(parent_of(pid), signal.SIGKILL)

    until(lambda: not processes.is_running(pid))
    until(lambda: worker.job(job_id).claim == 2)
    until(lambda: worker.job(job_id).state == State.running, seconds=90)

    assert worker.job(job_id).worker_pid != pid
    assert worker.job(job_id).attempt == 1  # the job is not to blame
    assert worker.process.poll() is None


# The forkserver dies just when the children have been looked at, and the next never comes.
LOSES_ITS_FORKSERVER = """
import os
import signal
import sys
import time
from pathlib import Path
from database.leases import Watch
from workers import __main__, processes
from workers.children import Launcher

word = Path(os.environ["DANLU_HOME"]) / "kill"
asked = []

def give_up_silent(self, look=Watch.give_up_silent):
    if word.exists():
        forkserver = int(word.read_text())
        word.unlink()
        os.kill(forkserver, signal.SIGKILL)
        while processes.is_running(forkserver):
            time.sleep(0.01)
    return look(self)

def ask(self, *given, unless, ask=Launcher.ask):
    while asked and not unless():
        time.sleep(0.05)
    asked.append(given)
    return ask(self, *given, unless=unless)

Watch.give_up_silent = give_up_silent
Launcher.ask = ask
sys.exit(__main__.main())
"""


def test_what_a_forkserver_leaves_is_ended_before_another_one_comes(
    new_worker: NewWorker, training: Training, until: Until
) -> None:
    worker = new_worker()
    worker.start(program=LOSES_ITS_FORKSERVER)
    job_id, pid = training(worker)
    (worker.home / "kill").write_text(str(parent_of(pid)))

    until(lambda: not (worker.home / "kill").exists())
    until(lambda: not processes.is_running(pid))
    until(lambda: worker.job(job_id).state == State.queued)

    assert (worker.job(job_id).attempt, worker.job(job_id).losses) == (1, 0)


def test_a_child_that_lost_its_claim_makes_room(
    worker: Any, training: Training, until: Until
) -> None:
    job_id, pid = training(worker)

    with worker.sessions.begin() as session:
        fence = jobs.fence_of(jobs.get(session, job_id))
        assert jobs.lose(session, fence, reason="of a test")
    until(lambda: not processes.is_running(pid))
    until(lambda: worker.job(job_id).state == State.running)

    assert worker.job(job_id).attempt == 2
    assert worker.job(job_id).worker_pid != pid


def test_a_failed_job_says_why_and_the_next_one_runs(worker: Any, until: Until) -> None:
    misfit = worker.submit(image_size=8)
    fine = worker.submit(epochs=1)

    job = until(lambda: ended(worker, misfit))
    assert (job.state, job.error["code"]) == (State.failed, "network_misfit")
    assert "Layer 3" in job.error["message"]
    run = worker.home / "runs" / misfit
    ended_as = processes.read(run / processes.EXIT_FILE)
    assert (ended_as["claim"], ended_as["state"], ended_as["exception"]) == (1, "failed", "Problem")
    log = (run / "log.txt").read_text()
    assert "Layer 3" in log
    assert "Traceback" not in log, "nobody needs to know where a foreseen problem was raised"
    assert not (run / processes.PROCESS_FILE).exists()
    assert until(lambda: ended(worker, fine)).state == State.succeeded


def downloading(worker: Any, job_id: str) -> bool:
    job = worker.job(job_id)
    return bool(job.progress) and job.progress["phase"] == "downloading" and job.device is None


def test_while_some_jobs_download_others_train(worker: Any, until: Until) -> None:
    first = worker.submit(dataset="fashion_mnist")
    until(lambda: downloading(worker, first))

    digits = worker.submit(epochs=1)
    assert until(lambda: ended(worker, digits)).state == State.succeeded
    assert downloading(worker, first)

    more = [worker.submit(dataset="fashion_mnist") for _ in range(MAX_WITHOUT_DEVICE)]
    until(lambda: all(downloading(worker, job_id) for job_id in more[:-1]))
    assert worker.job(more[-1]).state == State.queued
    worker.cancel(first)
    until(lambda: worker.job(first).state == State.cancelled)
    assert ended_by_itself(worker, first)
    until(lambda: downloading(worker, more[-1]))


def test_a_worker_takes_all_with_it_and_the_next_one_goes_on(
    new_worker: NewWorker, training: Training, until: Until
) -> None:
    """One worker after another on the same home, since each takes seconds to come up: one is
    killed, one is killed with all that it has started, one is told to stop.
    """
    worker = new_worker(DANLU_JOBS_PER_DEVICE="2")
    worker.start()
    job_id, _ = training(worker)
    before = is_killed(worker, job_id, until)
    worker.start()
    until(lambda: max(numbers(worker, job_id)[1]) > before, seconds=90)
    assert (worker.job(job_id).attempt, worker.job(job_id).losses) == (1, 0)

    before = is_killed_with_all(worker, job_id, until)
    worker.start()
    until(lambda: max(numbers(worker, job_id).get(2, [0])) > before, seconds=90)
    assert min(numbers(worker, job_id)[2]) > 1
    assert (worker.job(job_id).attempt, worker.job(job_id).losses) == (2, 0)
    assert f"{job_id} lost by an earlier worker" in worker.log()

    # Two at once, on one device if there is only one.
    other, _ = training(worker)
    stops(worker, [job_id, other], until)
    assert [worker.job(one).attempt for one in (job_id, other)] == [2, 1]


def is_killed(worker: Any, job_id: str, until: Until) -> int:
    """Its job's last epoch."""
    worker.process.kill()
    worker.process.wait()
    until(lambda: not worker.pids())
    # Its child noticed, and left word that the job is not to blame.
    said = processes.read(worker.home / "runs" / job_id / processes.EXIT_FILE)
    assert said is not None
    assert said["state"] == "released"
    return max(numbers(worker, job_id)[1])


def is_killed_with_all(worker: Any, job_id: str, until: Until) -> int:
    """Its job's last epoch."""
    # Stopped first: one that sees another go would write how it ended.
    pids = worker.pids()
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # the forkserver goes by itself
                os.kill(pid, number)
    worker.process.wait()
    until(lambda: not worker.pids())
    assert worker.job(job_id).state == State.running  # nobody is left to say otherwise
    return max(numbers(worker, job_id)[1])


def stops(worker: Any, at_work: list[str], until: Until) -> None:
    """Told to, it gives the jobs back."""
    assert [worker.job(job_id).state for job_id in at_work] == [State.running, State.running]
    pids = [worker.job(job_id).worker_pid for job_id in at_work]

    worker.process.terminate()
    assert worker.process.wait(60) == 0

    for job_id in at_work:
        job = worker.job(job_id)
        assert (job.state, job.losses) == (State.queued, 0)
        assert (job.worker_id, job.device, job.progress) == (None, None, None)
        assert saved(worker, job_id)
    assert not any(map(processes.is_running, pids))
    until(lambda: not worker.pids())


def test_spawned_children_do_the_same(new_worker: NewWorker, until: Until) -> None:
    """As they are started elsewhere than on Linux."""
    worker = new_worker(DANLU_START_METHOD="spawn")
    job_id = worker.submit(epochs=1)

    worker.start()
    job = until(lambda: ended(worker, job_id), seconds=100)

    assert (job.state, job.attempt) == (State.succeeded, 1)
    assert worker.pid("forkserver") is None


def inspectors(worker: Any) -> list[int]:
    """The processes that an import has started."""
    found = []
    for pid in worker.pids():
        with contextlib.suppress(OSError):
            if b"members" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def test_what_an_import_has_started_ends_with_it(worker: Any, until: Until) -> None:
    """Killed, and after that cancelled, while it looks at images that take a while."""
    photo = io.BytesIO()  # many pixels in few bytes: the disk is to be the least of it
    coarse = Image.effect_noise((300, 300), 50)
    coarse.resize((6000, 6000), Image.Resampling.NEAREST).save(photo, "PNG")
    uploads = worker.home / "uploads"
    uploads.mkdir()
    with zipfile.ZipFile(uploads / "a", "w") as packed:
        for number in range(520):
            packed.writestr(f"{'ab'[number % 2]}/{number}.png", b"junk")
        for name in ("a/1.jpg", "b/1.jpg", *(f"b/{number}.jpg" for number in range(900, 930))):
            packed.writestr(name, photo.getvalue())
    asked = {"upload": "a", "sha256": "abc", "merge": False}
    with worker.sessions.begin() as session:
        job_id = jobs.enqueue(
            session, kind="import", dataset="noise", recipe=None, request=asked, owner="lin"
        ).id

    first = until(lambda: inspectors(worker))
    os.kill(worker.job(job_id).worker_pid, signal.SIGKILL)
    until(lambda: not any(map(processes.is_running, first)))
    second = until(lambda: set(inspectors(worker)) - set(first))
    assert worker.job(job_id).attempt == 2
    worker.cancel(job_id)
    job = until(lambda: ended(worker, job_id))

    assert job.state == State.cancelled
    assert not any(map(processes.is_running, second))
    # The supervisor tidies up once it has written that the job has ended.
    # Others' downloads may have left something beside it.
    left = {".import-*", ".swept-*", "noise*"}
    until(lambda: not [one for name in left for one in (worker.home / "datasets").glob(name)])
    until(lambda: not list(uploads.iterdir()))
