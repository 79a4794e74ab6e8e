"""Looks at everything that danlu needs, and changes nothing: on a home in use, damaged or missing.

Knows which checks there are; what each looks at is its own.
"""

import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from urllib.parse import urlsplit

from app.admin.checks import cache, database, datasets, disk, machine, programs, store
from app.admin.findings import Finding, problem
from app.admin.record import Told
from database.backups import Contents
from problems import Problem
from settings import Settings


def examine(settings: Settings, *, url: str, quick: bool, told: Told) -> list[Finding]:
    """All findings; `quick` leaves out what takes long: checksums, and loading PyTorch.

    Raises `Problem` database_newer: nothing else could be trusted then.
    """
    with contextlib.nullcontext() if quick else machine.Probe() as probe:
        looked, contents = database.examine(settings)
        found = [*_safe("home", partial(disk.examine, settings)), *looked]
        if contents is not None:
            found += _of_contents(settings, contents, checksums=not quick, told=told)
        told("data sets", 0, 0)
        found += _safe("datasets", partial(datasets.examine, settings))
        decoded = partial(cache.examine, checksums=not quick, told=told)
        found += _safe("cache", partial(decoded, settings))
        for address in _addresses(settings, url):
            found += _safe("server", partial(programs.server, settings, address))
        found += _safe("packages", machine.packages)
        found += _safe("limits", machine.limits)
        if probe is not None:
            told("devices", 0, 0)
            found += _safe("devices", partial(probe.devices, settings))
    return found


def _of_contents(
    settings: Settings, contents: Contents, *, checksums: bool, told: Told
) -> list[Finding]:
    checkpoints = partial(store.checkpoints, checksums=checksums, told=told)
    return [
        *_safe("checkpoints", partial(checkpoints, settings, contents)),
        *_safe("runs", partial(store.leftovers, settings, contents)),
        *_safe("worker", partial(programs.worker, settings, contents)),
    ]


def _addresses(settings: Settings, url: str) -> list[str]:
    """Where a server may be: where clients look for it, and where it was told to listen."""
    asked = urlsplit(url if "://" in url else f"http://{url}")
    if "port" not in settings.model_fields_set or settings.port in (0, asked.port):
        return [url]
    return [url, f"http://127.0.0.1:{settings.port}"]


def _safe(about: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What a check finds; one that cannot look is a finding too, and stops no other."""
    found: list[Finding] = []
    try:
        for one in check():
            found.append(one)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        hint = "Run this as the user that danlu runs as."
        found.append(problem(about, f"{where}{error.strerror or error}.", hint))
    except Problem as wrong:
        found.append(problem(about, wrong.detail, wrong.hint))
    except Exception as error:
        said = f"This could not be looked at: {type(error).__name__}: {error}"
        found.append(problem(about, said, "Please report it."))
    return found
