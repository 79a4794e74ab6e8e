"""The database: whether SQLite can read it, whether it is whole, and of which danlu it is."""

import sqlite3
from collections import Counter
from pathlib import Path

from app.admin import screen
from app.admin.findings import Finding, fine, problem, warning
from database import backups, engine, files
from database.backups import Contents
from settings import Settings

_ABOUT = "database"
_RESTORE = (
    "Stop danlu and keep the file. Then danlu restore BACKUP --home NEW; without a backup, see "
    "docs/guide/operate.md."
)


def examine(settings: Settings) -> tuple[list[Finding], Contents | None]:
    """What was found, and what is in the database where that can be known. Raises `Problem`
    database_newer.
    """
    path = files.path_of(settings.database)
    if path is None:
        return [fine(_ABOUT, "It is no SQLite file, and was not looked at.")], None
    try:
        return _look(path) if path.exists() else _missing(settings, path)
    except sqlite3.Error as error:
        return [problem(_ABOUT, f"{path} cannot be read: {error}.", _RESTORE)], None
    except OSError as error:
        hint = "Run this as the user that danlu runs as."
        return [problem(_ABOUT, f"{path} cannot be read: {error.strerror or error}.", hint)], None


def _look(path: Path) -> tuple[list[Finding], Contents | None]:
    revision = backups.revision(path)
    newest = engine.newest([revision] if revision else [])
    if faults := files.faults(path):
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return [problem(_ABOUT, f"{path} is damaged: {faults[0]}{more}.", _RESTORE)], None
    found = []
    if strays := files.strays(path):
        named = ", ".join(f"{count} in {table}" for table, count in strays.items())
        hint = "They do no harm; please report how it came to this."
        found.append(warning(_ABOUT, f"Rows belong to rows that are not there: {named}.", hint))
    contents = backups.contents(path)
    states = Counter(contents.jobs.values())
    said = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
    whole = f"It is whole ({screen.size(path.stat().st_size)}); jobs: {said or 'none yet'}."
    if newest is not None:
        whole += " An older danlu made it; danlu serve copies it and brings it up to date."
    found.append(fine(_ABOUT, whole))
    return found, contents


def _missing(settings: Settings, path: Path) -> tuple[list[Finding], Contents | None]:
    if any(settings.checkpoints.glob("ckpt_*")):
        hint = "Bring it back from a backup; danlu serve would begin with an empty one."
        return [problem(_ABOUT, f"{path} is gone, and there are checkpoints.", hint)], None
    return [fine(_ABOUT, f"{path} is not there yet; danlu serve makes it.")], Contents()
