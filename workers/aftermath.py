"""What is left when a child is gone: how its job ended is written, and its remains are removed.

Also what an earlier worker of this host left. Knows nothing of devices.
"""

import contextlib
import logging
from threading import Lock, Thread

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from data_store import staging
from database import jobs
from models_store import exports
from settings import Settings
from workers import endings, processes
from workers.children import Child

log = logging.getLogger(__name__)


class Aftermath:
    """Of the children of one home."""

    def __init__(
        self, settings: Settings, sessions: sessionmaker[Session], looking: sessionmaker[Session]
    ) -> None:
        """`looking` takes no lock."""
        self._settings = settings
        self._sessions = sessions
        self._looking = looking
        self._clearing = Lock()

    def settle(self, one: Child, *, stopping: bool) -> None:
        """Writes how the job of a child ended that `end_rest` was done to: as its `exit.json` says;
        without one it was lost, unless the worker is `stopping`. Raises `SQLAlchemyError`, and is
        to be called again then.
        """
        run = self._settings.runs / one.fence.job_id
        record = endings.read(run, one.fence.claim)
        # Dead already, or nearly, when its job came: the job is not to blame.
        untouched = one.stood_by and not (run / processes.PROCESS_FILE).exists()
        if record is None and (one.orphaned or stopping or untouched):
            record = endings.RELEASED
        record = record or endings.of_exit_code(one.process.exitcode)
        with self._sessions.begin() as session:
            endings.write(session, one.fence, record)
        # Left by a process that was killed; the next claim's must not be taken to have begun.
        with contextlib.suppress(OSError):  # at worst an attempt is counted
            (run / processes.PROCESS_FILE).unlink()
        if one.kind == "import":
            self.forget_archive(one.fence.job_id)
            self.sweep()
        elif one.kind == "export":
            exports.forget(self._settings.checkpoints, one.fence.job_id, one.fence.claim)
        log.info("%s %s, exit code %s", one.fence.job_id, record.state, one.process.exitcode)

    def release(self, fence: jobs.Fence) -> None:
        """A job that could not begin goes back to the queue, and nothing is counted. While the
        database does not answer it is left to its lease, which runs out.
        """
        try:
            with self._sessions.begin() as session:
                endings.write(session, fence, endings.RELEASED)
            self.forget_archive(fence.job_id)  # cancelled just then
        except SQLAlchemyError as error:
            why = getattr(error, "orig", error)
            log.error("%s cannot be released: %s", fence.job_id, why)

    def settle_earlier(self, *, host: str, but: str) -> None:
        """What earlier workers of this host left, all `but` this one: their children are ended,
        their jobs settled.

        Lost is a job whose process had begun and is gone. What had no process yet, or one that was
        well until now, went with its worker.
        """
        gone = processes.end_stale_groups(self._settings.runs, host)
        with self._sessions.begin() as session:
            behind = jobs.left_behind(session, host=host, but=but)
            for fence in behind:
                record = endings.read(self._settings.runs / fence.job_id, fence.claim)
                if record is None and fence.job_id in gone:
                    record = endings.lost("ended with all of its worker")
                record = record or endings.RELEASED
                endings.write(session, fence, record)
                log.warning("%s %s by an earlier worker", fence.job_id, record.state)
        for fence in behind:
            self.forget_archive(fence.job_id)

    def forget_archive(self, job_id: str) -> None:
        """Of an import that has ended."""
        with self._looking() as session:
            endings.forget_archive(session, job_id, self._settings.uploads)

    def sweep(self) -> None:
        """Half a data set, left by an import that is over: its process was killed. It is out of
        sight when this returns, and what it was to replace is in its place, for whoever begins with
        that next. A thread removes it, since nobody would watch the children meanwhile.
        """
        datasets = self._settings.datasets
        # Listed first: one that begins after that is not asked for, so it cannot be taken for over.
        left = staging.jobs(datasets)
        with self._looking() as session:
            over = jobs.ended(session, left)
        staging.sweep(datasets, over)
        Thread(target=self._clear, name="sweeping", daemon=True).start()

    def _clear(self) -> None:
        with self._clearing:  # two at once would take as long
            staging.clear(self._settings.datasets)
