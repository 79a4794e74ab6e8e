"""A backup of a home that is in use: server, worker and jobs go on meanwhile.

Whole or not there: it is written as `<target>.unfinished` and renamed at the end. Knows the layout
of a home; how files get a second name is `links`'s to know.
"""

import contextlib
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from app.admin import links, record
from app.admin.record import FileRecord, FolderRecord, Record, Told
from app.admin.refusal import Refused
from database import backups, engine, files
from models_store import folders
from settings import Settings

# A checkpoint that was pruned between two looks is met again only if a job saves faster than its
# files are linked; then its rows go, as they have gone in the home by now.
_ROUNDS = 10
# What a process says of itself means nothing in another home.
_OF_PROCESSES = {"process.json", "exit.json"}


@dataclass(frozen=True, slots=True)
class Made:
    """A finished backup. `shared_bytes` of it take no space, for the home has the same files;
    `lost` are checkpoints that have a row in the home and no files.
    """

    folder: Path
    record: Record
    shared_bytes: int
    lost: list[str]


def backup(settings: Settings, target: Path, *, datasets: bool, told: Told) -> Made:
    """Makes the backup `target`, a folder that is not there or empty.

    Raises `Refused` (no_home, target_unusable, database_damaged), `Problem` database_newer, and
    OSError; nothing is left of it then.
    """
    database = database_of(settings)
    target = target.expanduser().resolve()
    _check(settings, target)
    with _unfinished(settings.home, target) as folder:
        copying = _Copying(settings, database, folder, told)
        contents = copying.database_and_checkpoints()
        copying.logs(contents)
        if datasets and settings.datasets.is_dir():
            copying.datasets()
        made = copying.describe(contents)
        record.write(folder, made)
        links.to_disk(folder)
    return Made(target, made, links.shared_bytes(target), sorted(copying.lost))


def database_of(settings: Settings) -> Path:
    """The file of the home's database. Raises `Refused` no_home and `Problem` database_newer."""
    path = files.path_of(settings.database)
    if path is None:
        detail = "The database is no SQLite file, and danlu can copy nothing else."
        hint = "Use what it has itself, such as pg_dump, and copy checkpoints/ and runs/ after it."
        raise Refused("no_home", detail, hint=hint)
    if not path.is_file():
        hint = "Name the home with --home; GET /system of a server says which one it uses."
        raise Refused("no_home", f"There is no database {path}.", hint=hint)
    try:
        revision = backups.revision(path)
    except sqlite3.Error as error:
        raise database_damaged(path, str(error)) from None
    engine.newest([revision] if revision else [])
    return path


def database_damaged(path: Path, why: str) -> Refused:
    """The refusal of a database that SQLite cannot read."""
    hint = "danlu doctor says more. Restore an older backup, or stop danlu and copy the whole home."
    detail = f"The database {path} cannot be read: {why}."
    return Refused("database_damaged", detail, hint=hint, exit_code=1)


def _check(settings: Settings, target: Path) -> None:
    hint = "Name a folder that is not there yet, or an empty one."
    for kept in (settings.home, settings.datasets):
        if target.is_relative_to(kept.resolve()):
            raise Refused("target_unusable", f"{target} lies in {kept} itself.", hint=hint)
    if target.is_mount():
        raise Refused("target_unusable", f"{target} is a mount point.", hint=f"Try {target}/danlu.")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise Refused("target_unusable", f"{target} is there already.", hint=hint)


@contextlib.contextmanager
def _unfinished(home: Path, target: Path) -> Iterator[Path]:
    """A folder that becomes `target` at the end, and goes away after an error."""
    folder = target.with_name(f"{target.name}.unfinished")
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        detail = f"{folder} is there: another backup is being written, or was cut off."
        raise Refused("target_unusable", detail, hint="If none is, delete it.") from None
    try:
        folder.chmod(0o700 | home.stat().st_mode & 0o077)  # as private as the home
        yield folder
        folder.rename(target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


class _Copying:
    """One backup on its way into `folder`."""

    def __init__(self, settings: Settings, database: Path, folder: Path, told: Told) -> None:
        self._settings = settings
        self._database = database
        self._folder = folder
        self._told = told
        self._taken: set[str] = set()
        self.lost: set[str] = set()

    def database_and_checkpoints(self) -> backups.Contents:
        """The database, and the files of every checkpoint that it knows.

        A checkpoint's files are there before its row and go after it. So what is linked first and
        is not in the database was saved or pruned meanwhile, and is left out; what the database
        has and cannot be linked any more has been pruned since, and a newer copy lacks the row.
        """
        copy, missing = self._folder / record.DATABASE, set[str]()
        for _ in range(_ROUNDS):
            self._states()  # before the rows: a job goes on from a state that its rows know
            self._checkpoints(folders.finished(self._settings.checkpoints))
            self._copy_database(copy)
            contents = backups.contents(copy)
            before, missing = missing, self._checkpoints(sorted(contents.checkpoint_ids))
            if missing <= before:  # a row that stays has lost its files
                break
        self.lost = missing
        if missing:
            backups.without(copy, missing)
        self._tidy(contents)
        return backups.contents(copy)

    def logs(self, contents: backups.Contents) -> None:
        """What lies in the run folders themselves. It grows, so it is copied."""
        for job_id in contents.jobs:
            run, target = self._settings.runs / job_id, self._folder / record.RUNS / job_id
            for file in sorted(run.glob("[!.]*")):
                if file.name in _OF_PROCESSES or file.suffix == ".tmp" or not file.is_file():
                    continue
                target.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):  # the job was deleted just now
                    shutil.copy2(file, target / file.name)

    def datasets(self) -> None:
        """All data sets. People write to them, so they are copied."""
        done, total = 0, links.weigh(self._settings.datasets)[1]

        def copied(count: int) -> None:
            nonlocal done
            done += count
            self._told("data sets", done, total)

        links.copy_folder(self._settings.datasets, self._folder / record.DATASETS, copied)

    def describe(self, contents: backups.Contents) -> Record:
        """What is in the folder by now."""
        datasets = record.weigh(self._folder / record.DATASETS)
        measured = record.measure(self._folder, self._told)
        every: list[FileRecord | FolderRecord] = [*measured.values(), *datasets.values()]
        return Record(
            danlu=version("danlu"),
            created_at=datetime.now(UTC),
            home=str(self._settings.home),
            datasets_dir=str(self._settings.datasets),
            database_revision=backups.revision(self._folder / record.DATABASE),
            jobs=dict(Counter(contents.jobs.values())),
            checkpoints=len(contents.checkpoint_ids),
            bytes=sum(one.bytes for one in every),
            files=measured,
            datasets=datasets,
        )

    def _states(self) -> None:
        for run in _folders(self._settings.runs):
            for folder in _folders(run):
                target = self._folder / record.RUNS / run.name / folder.name
                with contextlib.suppress(FileNotFoundError):  # the job has just removed it
                    links.link_folder(folder, target)

    def _checkpoints(self, ids: list[str]) -> set[str]:
        """Takes those that are not taken yet; the ids of those that are not there."""
        missing = set()
        for done, name in enumerate(ids):
            if name in self._taken:
                continue
            self._told("checkpoints", done, len(ids))
            source = self._settings.checkpoints / name
            try:
                links.link_folder(source, self._folder / record.CHECKPOINTS / name)
                self._taken.add(name)
            except FileNotFoundError:
                missing.add(name)
        return missing

    def _copy_database(self, target: Path) -> None:
        self._told("database", 0, 1)
        try:
            files.copy(self._database, target)
            faults = files.faults(target)
        except sqlite3.Error as error:
            raise database_damaged(self._database, str(error)) from None
        if faults:
            raise database_damaged(self._database, faults[0])

    def _tidy(self, contents: backups.Contents) -> None:
        """Removes what was taken and the database does not know."""
        for part, known in (
            (record.CHECKPOINTS, contents.checkpoint_ids),
            (record.RUNS, contents.jobs),
        ):
            for folder in _folders(self._folder / part):
                if folder.name not in known:
                    shutil.rmtree(folder)


def _folders(path: Path) -> list[Path]:
    return sorted(folder for folder in path.glob("[!.]*") if folder.is_dir())
