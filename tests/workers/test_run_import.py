"""Imports from the row to the data set."""

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from data_store import arrays, doctor, folder
from data_store.progress import Progress
from database import events, jobs
from workers import run_job
from workers.reporter import Stop
from workers.run_job import Outcome
from workers.task import Task

Sessions = sessionmaker[Session]
Files = dict[str, bytes]


def photo(seed: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((32, 32)).save(file, "JPEG")
    return file.getvalue()


PETS = {
    f"pets/{name}/{n}.jpg": photo(n + 50 * (name == "dog"))
    for name in ("cat", "dog")
    for n in range(12)
}


class Work:
    """One import after the other into the data set `pets`, and what came of each."""

    def __init__(self, home: Path, url: str, sessions: Sessions) -> None:
        self.home, self.url, self.sessions = home, url, sessions
        self.pets = home / "datasets/pets"
        self.upload = home / "uploads/a"
        self.upload.parent.mkdir()
        self.stop = Stop()
        self.fence: jobs.Fence

    def send(self, files: Files, *, merge: bool = False) -> None:
        """Uploads a zip and enqueues and claims its import."""
        with zipfile.ZipFile(self.upload, "w") as packed:
            for name, data in files.items():
                packed.writestr(name, data)
        request = {"upload": "a", "sha256": "abc", "merge": merge}
        with self.sessions.begin() as session:
            jobs.enqueue(
                session, kind="import", dataset="pets", recipe=None, request=request, owner="lin"
            )
        self.claim()

    def claim(self) -> None:
        with self.sessions.begin() as session:
            job = jobs.claim(session, worker_id="w1", host="here", device=None, kinds=("import",))
        assert job is not None
        self.fence, self.stop = jobs.fence_of(job), Stop()

    def claim_again(self) -> None:
        """As the next attempt, after a loss."""
        with self.sessions.begin() as session:
            assert jobs.lose(session, self.fence, reason="of a crash")
        self.claim()

    def run(self, *, ends: bool = True) -> Outcome:
        """As a child and its supervisor do it; the row says how it ended only if it `ends`."""
        folders = ("datasets", "cache", "checkpoints", "weights", "runs", "uploads")
        task = Task(
            fence=self.fence,
            kind="import",
            device="cpu",
            database=self.url,
            **{name: self.home / name for name in folders},
        )
        outcome = run_job.run(task, None, self.stop)  # type: ignore[arg-type] # it asks for no device
        with self.sessions.begin() as session:
            if ends and outcome.state in ("succeeded", "failed"):
                jobs.finish(
                    session,
                    self.fence,
                    state=jobs.State(outcome.state),
                    error=outcome.error,
                )
        return outcome

    def import_(self, files: Files, **how: Any) -> Outcome:
        self.send(files, **how)
        return self.run()

    def job(self) -> jobs.Job:
        with self.sessions() as session:
            return jobs.get(session, self.fence.job_id)

    def record(self, name: str) -> Any:
        return json.loads((self.pets / ".danlu" / name).read_text())

    def images(self) -> set[str]:
        return {i.path for images in folder.scan(self.pets).parts.values() for i in images}

    def left(self) -> list[str]:
        """What lies in the folders of data sets and uploads."""
        folders = (self.home / "datasets", self.home / "uploads")
        return sorted(path.name for f in folders if f.exists() for path in f.iterdir())

    def version(self) -> str:
        """As a training finds it."""
        loaded = arrays.load(
            "pets",
            root=self.home / "datasets",
            cache=self.home / "cache",
            size=(8, 8),
            channels=3,
            progress=lambda *_: None,
        )
        return loaded.version


@pytest.fixture
def work(tmp_path: Path, url: str, sessions: Sessions) -> Work:
    return Work(tmp_path, url, sessions)


def test_an_archive_becomes_a_data_set(work: Work) -> None:
    assert work.import_(PETS) == Outcome("succeeded", stop_reason="completed")

    assert work.images() == {path.removeprefix("pets/") for path in PETS}
    assert work.left() == ["pets"]
    job = work.job()
    assert (job.warnings, job.dataset_version) == ([], work.version())
    assert work.record("origin.json") == {
        "sha256": "abc",
        "job": job.id,
        "version": job.dataset_version,
    }
    report = work.record("report.json")
    assert (report["images"], report["findings"]) == (24, [])


def test_faults_are_left_out_reported_and_warned_of(work: Work) -> None:
    faults = {
        "pets/cat/cut.jpg": PETS["pets/cat/3.jpg"][:300],
        "pets/dog/text.jpg": b"no image",
        "pets/notes.txt": b"notes",
        "pets/cat/copy.jpg": PETS["pets/cat/4.jpg"],
    }

    assert work.import_(PETS | faults).state == "succeeded"

    assert work.images() == {p.removeprefix("pets/") for p in PETS} | {"cat/copy.jpg"}
    assert not (work.pets / "cat/cut.jpg").exists()
    warnings = {each["code"]: each["message"] for each in work.job().warnings}
    assert warnings.keys() == {"unreadable_images", "duplicates", "files_left_out"}
    assert "(cat/cut.jpg, dog/text.jpg)" in warnings["unreadable_images"]
    assert "1 no image (pets/notes.txt)" in warnings["files_left_out"]
    assert work.job().dataset_version == work.version()
    assert [each["code"] for each in work.record("report.json")["findings"]] == list(warnings)


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"cat/1.jpg": photo(1)}, "dataset_invalid"),
        ({"cat/1.jpg": photo(1), "dog/1.jpg": b"text"}, "dataset_invalid"),
        ({"cat/1.jpg": photo(1), "../dog/1.jpg": photo(2)}, "archive_unsafe"),
    ],
)
def test_a_failure_leaves_nothing_behind(work: Work, files: Files, code: str) -> None:
    outcome = work.import_(files)

    assert outcome.error is not None
    assert (outcome.state, outcome.error["code"]) == ("failed", code)
    assert work.left() == []
    assert ".import" not in outcome.error["message"]


def test_a_failure_leaves_the_set_that_was_there(work: Work) -> None:
    work.import_(PETS)
    for merge in (False, True):
        assert work.import_({"../x.jpg": b""}, merge=merge).state == "failed"
    assert len(work.images()) == 24
    assert work.left() == ["pets"]


def test_an_archive_that_is_gone_is_asked_for(work: Work) -> None:
    work.send(PETS)
    work.upload.unlink()

    outcome = work.run()

    assert outcome.error is not None
    assert outcome.error["code"] == "archive_invalid"
    assert outcome.error["hint"] == "Send it again."


def test_a_set_is_replaced(work: Work) -> None:
    work.import_(PETS)
    before = work.job().dataset_version

    work.import_({"cow/1.jpg": photo(7), "owl/1.jpg": photo(8)})

    assert work.images() == {"cow/1.jpg", "owl/1.jpg"}
    assert work.job().dataset_version == work.version() != before
    assert work.left() == ["pets"]


def test_images_are_added_to_a_set(work: Work) -> None:
    work.import_(PETS)

    work.import_(
        {"cat/0.jpg": photo(99), "cat/1.jpg": PETS["pets/cat/1.jpg"], "cat/bad.jpg": b"text"},
        merge=True,
    )

    assert work.images() == {p.removeprefix("pets/") for p in PETS} | {"cat/0-2.jpg"}
    assert work.record("origin.json")["sha256"] is None
    assert work.job().dataset_version == work.version()
    assert [each["code"] for each in work.job().warnings] == ["unreadable_images"]
    assert work.left() == ["pets"]


def test_files_that_were_there_are_not_taken_away(work: Work) -> None:
    for name, data in PETS.items():
        file = work.home / "datasets" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    (work.pets / "cat/own.jpg").write_bytes(b"what danlu cannot read")

    work.import_({"cat/new.jpg": photo(99)}, merge=True)

    assert (work.pets / "cat/own.jpg").read_bytes() == b"what danlu cannot read"
    assert work.job().dataset_version == work.version()


def test_to_add_to_a_set_that_is_not_there_makes_it(work: Work) -> None:
    assert work.import_(PETS, merge=True).state == "succeeded"
    assert len(work.images()) == 24


def test_a_killed_import_begins_again(work: Work) -> None:
    work.send(PETS)
    left = work.home / f"datasets/.import-{work.fence.job_id}.{work.fence.claim}/set/.unpacked"
    left.mkdir(parents=True)
    work.claim_again()

    assert work.run().state == "succeeded"

    assert work.left() == ["pets"]
    assert len(work.images()) == 24


def test_one_that_was_killed_at_the_very_end_only_says_so(work: Work) -> None:
    bad = {"pets/cat/bad.jpg": b"text"}
    work.send(PETS | bad)
    upload = work.upload.read_bytes()
    first = work.run(ends=False)
    work.upload.write_bytes(upload)
    work.claim_again()

    assert first.state == work.run().state == "succeeded"

    assert [each["code"] for each in work.job().warnings] == ["unreadable_images"]
    assert work.job().dataset_version == work.version()
    assert work.left() == ["pets"]


@pytest.mark.parametrize(
    ("why", "state", "left"), [("cancel", "cancelled", []), ("release", "released", ["a"])]
)
def test_a_stop_is_heard_at_once(
    work: Work, monkeypatch: pytest.MonkeyPatch, why: Any, state: str, left: list[str]
) -> None:
    files = {f"{name}/{n}.jpg": photo(n) for name in ("a", "b") for n in range(600)}
    work.send(files)
    examine, looked_at = doctor.examine, list[int]()

    def told(images: Path, progress: Progress, **given: Any) -> doctor.Examined:
        def look(phase: str, done: int, total: int) -> None:
            if done:
                looked_at.append(done)
                work.stop.set(why)
            progress(phase, done, total)

        return examine(images, look, **given)

    monkeypatch.setattr(doctor, "examine", told)

    outcome = work.run()

    assert outcome.state == state
    [count] = looked_at
    assert count < len(files)
    assert work.left() == left


@pytest.mark.parametrize("swept", [False, True])
def test_another_worker_that_has_the_job_is_not_disturbed(work: Work, swept: bool) -> None:
    class Losing(Stop):
        """Meanwhile the job is given up, and somebody else takes it."""

        lost = False

        def __call__(self) -> bool:
            if not self.lost:
                self.lost, ours = True, work.fence
                work.claim_again()  # which makes a new Stop, too
                work.fence = ours
                for folder in (work.home / "datasets").glob(".import-*") if swept else ():
                    shutil.rmtree(folder)  # as that one does before it begins
            return False

    work.send(PETS)
    work.stop = Losing()

    assert work.run().state == "released"

    assert work.left() == ["a"]


def test_a_failure_says_so_when_nobody_can_be_asked_whose_the_archive_is(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hold(*_: object) -> None:
        raise OperationalError("SELECT", None, Exception("database is locked"))

    monkeypatch.setattr(jobs, "hold", hold)

    outcome = work.import_({"cat/1.jpg": photo(1)})

    assert outcome.error is not None
    assert outcome.error["code"] == "dataset_invalid"
    assert work.left() == ["a"]


def test_a_database_that_does_not_answer_leaves_the_archive_for_later(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def describe(*_: object, **__: object) -> bool:
        raise OperationalError("UPDATE", None, Exception("database is locked"))

    monkeypatch.setattr(run_job, "LATER_SECONDS", 0)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(jobs, "describe", describe)
        assert work.import_(PETS).state == "released"
    assert work.left() == ["a"]

    with work.sessions.begin() as session:
        assert jobs.release(session, work.fence)
    work.claim()

    assert work.run().state == "succeeded"
    assert work.left() == ["pets"]
    assert work.job().attempt == 1


def test_progress_is_told_in_phases(work: Work) -> None:
    work.import_(PETS)

    with work.sessions() as session:
        told = [
            event.data["progress"]
            for event in events.since(session, 0, job_id=work.fence.job_id, limit=1000)
            if event.type == events.PROGRESS
        ]

    assert {each["phase"] for each in told} <= {"unpacking", "checking", "saving"}
    assert all(each["fraction"] is None or 0 <= each["fraction"] <= 1 for each in told)
    assert told[-1] == work.job().progress == {"phase": "saving", "fraction": 1.0}


def test_a_guess_at_names_is_told_in_the_log_and_the_report(
    work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    class Unsaid(zipfile.ZipInfo):
        def _encodeFilenameFlags(self) -> tuple[bytes, int]:
            return self.filename.encode("cp950"), 0

    caplog.set_level("INFO")
    names = {"cat": "貓", "dog": "小狗"}
    files = {
        Unsaid(f"{names[path.split('/')[1]]}/{path.split('/')[2]}"): data
        for path, data in PETS.items()
    }

    assert work.import_(files).state == "succeeded"  # type: ignore[arg-type] # zipfile takes both

    assert "names were read as Big5 (traditional Chinese), such as '貓/0.jpg'" in caplog.text
    (warning,) = work.job().warnings
    assert warning["code"] == "names_guessed"
    assert "(貓/0.jpg, 小狗/0.jpg)" in warning["message"]
