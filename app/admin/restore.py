"""A new home from a backup: everything that is in it, checked on the way.

Never over a home that is used. Knows the layout of a backup and of a home; the jobs that were at
work become queued again through the database room.
"""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.admin import links, record
from app.admin.record import Record, Told
from app.admin.refusal import Refused
from database import backups, engine, files
from settings import Settings

# Made by mkfs in a volume that is otherwise empty.
_OF_VOLUMES = {"lost+found"}


@dataclass(frozen=True, slots=True)
class Restored:
    """A restored home. `queued`: jobs that were at work and go on; `left_out`: what was damaged,
    and data sets that are there already.
    """

    home: Path
    record: Record
    queued: list[str]
    left_out: dict[str, str]


def restore(settings: Settings, source: Path, *, without_damaged: bool, told: Told) -> Restored:
    """Fills the home, which must be new or empty, from the backup `source`.

    Raises `Refused` (no_backup, backup_damaged, home_not_empty), `Problem` database_newer, and
    OSError; the home is as empty as before then.
    """
    source = source.expanduser().resolve()
    kept = record.read(source)
    database = _place(settings, source)
    left_out = record.damaged(source, kept, told)
    if left_out and (record.DATABASE in left_out or not without_damaged):
        raise _damaged(source, left_out)
    revision = backups.revision(source / record.DATABASE)
    engine.newest([revision] if revision else [])
    with _all_or_nothing(settings.home, database):
        _bring_files(settings.home, source, kept, left_out, told)
        left_out |= _bring_datasets(settings, source, left_out, told)
        files.copy(source / record.DATABASE, database)
        engine.migrate(settings.database)
        backups.without(database, _checkpoints_in(left_out))
        queued = _begin_anew(settings.database)
    return Restored(settings.home, kept, queued, left_out)


def _place(settings: Settings, source: Path) -> Path:
    """Where the database goes, in a home that may be filled."""
    home, hint = settings.home, "Name a folder that is not there yet, or an empty one, with --home."
    database = files.path_of(settings.database)
    if database is None:
        detail = "DANLU_DATABASE_URL names no SQLite file."
        raise Refused("home_not_empty", detail, hint="Unset it: a backup holds a SQLite file.")
    if home.resolve().is_relative_to(source):
        raise Refused("home_not_empty", f"{home} lies in the backup itself.", hint=hint)
    if home.exists() and not home.is_dir():
        raise Refused("home_not_empty", f"{home} is no folder.", hint=hint)
    there = sorted({each.name for each in home.glob("*")} - _OF_VOLUMES)
    if there or database.exists():
        found = there[0] if there else str(database)
        raise Refused("home_not_empty", f"{home} is in use: {found} is there.", hint=hint)
    return database


def _damaged(source: Path, wrong: dict[str, str]) -> Refused:
    named = "; ".join(f"{name} {what}" for name, what in list(wrong.items())[:5])
    more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
    hint = record.DAMAGED_HINT
    if record.DATABASE not in wrong:
        hint += " --without-damaged restores this one without what is damaged."
    detail = f"{source} is damaged: {named}{more}."
    return Refused("backup_damaged", detail, hint=hint, exit_code=1)


@contextlib.contextmanager
def _all_or_nothing(home: Path, database: Path) -> Iterator[None]:
    made, before = not home.exists(), set(database.parent.glob("*"))
    home.mkdir(parents=True, exist_ok=True)
    database.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for file in set(database.parent.glob(f"{database.name}*")) - before:
            file.unlink()
        for part in (record.CHECKPOINTS, record.RUNS, record.DATASETS):
            shutil.rmtree(home / part, ignore_errors=True)
        if made:
            with contextlib.suppress(OSError):  # somebody else has put something there
                home.rmdir()
        raise


def _bring_files(
    home: Path, source: Path, kept: Record, left_out: dict[str, str], told: Told
) -> None:
    """What the jobs left. Logs grow, so they are copied; all else is never written to again."""
    spoilt = _checkpoints_in(left_out)
    names = [name for name in kept.files if name not in left_out and name != record.DATABASE]
    for done, name in enumerate(names):
        told("files", done, len(names))
        part, owner, *rest = Path(name).parts
        if part == record.CHECKPOINTS and owner in spoilt:
            continue
        target = home / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if part == record.RUNS and len(rest) == 1:
            shutil.copy2(source / name, target)
        else:
            links.link(source / name, target)


def _bring_datasets(
    settings: Settings, source: Path, left_out: dict[str, str], told: Told
) -> dict[str, str]:
    """The data sets, but for those that are there already, where they are kept outside the home;
    those are returned.
    """
    there = {}
    names = [path.name for path in sorted((source / record.DATASETS).glob("*"))]
    for done, name in enumerate(names):
        told("data sets", done, len(names))
        path, target = f"{record.DATASETS}/{name}", settings.datasets / name
        if target.exists():
            there[path] = f"is in {settings.datasets} already"
        elif path not in left_out:
            _bring_dataset(source / path, target)
    return there


def _bring_dataset(source: Path, target: Path) -> None:
    """Whole or not at all: it may lie outside the home, where nobody clears up after us."""
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        links.copy_folder(source, unfinished, lambda _: None)
        unfinished.rename(target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _begin_anew(url: str) -> list[str]:
    database = engine.connect(url)
    try:
        with engine.session_factory(database).begin() as session:
            return backups.begin_anew(session)
    finally:
        database.dispose()


def _checkpoints_in(left_out: dict[str, str]) -> set[str]:
    parts = [Path(name).parts for name in left_out]
    return {part[1] for part in parts if part[0] == record.CHECKPOINTS}
