"""One import: an archive becomes a data set, or is added to one.

Archive, data set, doctor and row meet here. What is not finished is in a folder of its own; nothing
is left of it, nor of the archive, unless the job is to be done again.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from data_store import archive, doctor, durable, encodings, merging, staging
from data_store.archive import Unpacked
from data_store.progress import Progress, paced
from data_store.report import Finding
from data_store.staging import Staging
from database import engine, jobs
from problems import Problem
from workers.reporter import Reporter, Stop, Stopped
from workers.task import Task

log = logging.getLogger(__name__)

_SAVING = "saving"
# Of a phase: before that nobody can say how long it takes.
_FORETOLD_SECONDS = 1.0


def work(
    task: Task,
    sessions: sessionmaker[Session],
    reporter: Reporter,
    stop: Stop,
    request: Mapping[str, Any],
) -> str:
    """Does the whole job. `request` has `upload`, the name of the archive in `task.uploads`, its
    `sha256`, and `merge`: whether its images are added to the data set of the job's name, which is
    replaced otherwise.

    Raises `Problem` archive_invalid, archive_unsafe, archive_too_large, dataset_invalid, disk_full;
    `Stopped` within a second of being told.
    """
    with sessions() as session:
        name = str(jobs.get(session, task.fence.job_id).dataset_name)
    upload = task.uploads / str(request["upload"])
    job = _Import(task, sessions, _progress(reporter, stop), name, upload)
    try:
        job.work(request)
    except Stopped:
        if stop.reason == "cancel":  # else the job goes on elsewhere, or later
            upload.unlink(missing_ok=True)
        raise
    except BaseException as error:
        if not engine.did_not_answer(error):  # else the job goes on later
            _forget(upload, task, sessions)
        raise
    upload.unlink(missing_ok=True)
    reporter.tell({"phase": _SAVING, "fraction": 1.0})
    return "completed"


class _Import:
    """The import of `upload` as the data set `name`."""

    def __init__(
        self,
        task: Task,
        sessions: sessionmaker[Session],
        progress: Progress,
        name: str,
        upload: Path,
    ) -> None:
        self._task, self._sessions, self._progress = task, sessions, progress
        self._name, self._upload = name, upload
        self._stage = Staging(task.datasets, task.fence.job_id, task.fence.claim, name)
        self._saving: Callable[[int], None] | None = None

    def work(self, request: Mapping[str, Any]) -> None:
        self._stage.begin()
        try:
            if self._stage.is_done():  # an earlier attempt was killed just then
                self._describe_what_is_there()
                return
            if not self._upload.is_file():
                raise Problem(
                    "archive_invalid",
                    "The archive is not there any more: it goes when its job has ended.",
                    hint="Send it again.",
                )
            if request.get("merge") and self._stage.target.exists():
                self._make(*self._merge(), sha256=None)
            else:
                into = self._stage.set
                unpacked = archive.unpack(self._upload, into, self._progress)
                self._make(unpacked, None, sha256=request.get("sha256"))
        finally:
            self._stage.end()

    def _merge(self) -> tuple[Unpacked, frozenset[str]]:
        added = self._stage.folder / "added"
        known = merging.classes(self._stage.target)
        unpacked = archive.unpack(self._upload, added, self._progress, known=known)
        merged = merging.merge(self._stage.target, added, self._stage.set, self._tick)
        log.info(
            "%d images are new, %d were there already, %d have another name now",
            len(merged.new), merged.present, merged.renamed,
        )  # fmt: skip
        return unpacked, merged.new

    def _make(self, unpacked: Unpacked, new: frozenset[str] | None, *, sha256: str | None) -> None:
        """The set is unpacked: examines it and puts it in its place. `new` are the paths that came
        with the archive, None for all: of these, what cannot be read is not kept.
        """
        if unpacked.guessed:
            log.info(
                "names were read as %s, such as %r",
                encodings.NAMES[unpacked.encoding], unpacked.guessed[0],
            )  # fmt: skip
        examined = doctor.examine(self._stage.set, self._progress, name=self._name)
        dropped = [path for path in examined.unreadable if new is None or path in new]
        for path in dropped:
            (self._stage.set / path).unlink()
        version = examined.version(without=set(dropped))
        report = examined.report
        report = replace(report, findings=[*report.findings, *unpacked.findings()])
        origin = {"sha256": sha256, "job": self._task.fence.job_id, "version": version}
        self._stage.describe(origin, report.as_dict())
        durable.everything_to_disk(self._tick)
        self._take_place(version, [each.warning() for each in report.findings])
        log.info(
            "%s: %d images in %d classes, version %s",
            self._name, report.images, report.classes, version,
        )  # fmt: skip

    def _take_place(self, version: str, warnings: list[dict[str, str]]) -> None:
        """Raises `Stopped` when another worker has the job by now."""
        with self._sessions.begin() as session:
            if not jobs.describe(
                session, self._task.fence, dataset_version=version, warnings=warnings
            ):
                raise Stopped
            self._stage.take_place()

    def _tick(self) -> None:
        self._saving = self._saving or paced(self._progress, _SAVING, 1)
        self._saving(0)

    def _describe_what_is_there(self) -> None:
        origin = staging.read(self._stage.target, staging.ORIGIN) or {}
        report = staging.read(self._stage.target, staging.REPORT) or {}
        warnings = [Finding(**each).warning() for each in report.get("findings", [])]
        with self._sessions.begin() as session:
            jobs.describe(
                session, self._task.fence, dataset_version=origin["version"], warnings=warnings
            )


def _forget(upload: Path, task: Task, sessions: sessionmaker[Session]) -> None:
    """Removes the archive of an import that failed. Raises `Stopped` when another worker has the
    job by now: that one works with the same archive, and perhaps took our folder away.
    """
    try:
        with sessions.begin() as session:  # nobody gets the job meanwhile
            if ours := jobs.hold(session, task.fence) is not None:
                upload.unlink(missing_ok=True)
    except SQLAlchemyError:  # it is removed when the job has ended
        log.exception("nobody can say whose the archive is")
        return
    if not ours:
        log.warning("another worker has the job by now", exc_info=True)
        raise Stopped


def _progress(reporter: Reporter, stop: Stop) -> Progress:
    """Carries on how far the phase is and how long it may take; raises `Stopped` when told to."""
    began: dict[str, float] = {}

    def progress(phase: str, done: int, total: int) -> None:
        if stop():
            raise Stopped
        now = time.monotonic()
        spent = now - began.setdefault(phase, now)
        fraction = done / total if total else None
        left = None
        if fraction and spent >= _FORETOLD_SECONDS:
            left = spent / fraction * (1 - fraction)
        reporter.tell({"phase": phase, "fraction": fraction, "eta_seconds": left})

    return progress
