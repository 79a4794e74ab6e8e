"""Where a data set came from, and what its import found: read from what `staging` left in it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_store import staging


@dataclass(frozen=True, slots=True)
class Origin:
    """The archive that a data set was made of, the job that did it, and what came out.

    `sha256` is None for a set that several archives were merged into.
    """

    sha256: str | None
    job: str | None
    version: str | None


def read(folder: Path) -> Origin | None:
    """None for a folder that somebody put there by hand."""
    found = staging.read(folder, staging.ORIGIN)
    if found is None:
        return None
    return Origin(**{name: found.get(name) for name in ("sha256", "job", "version")})


def report(folder: Path) -> dict[str, Any] | None:
    """The doctor's report; None where there is none."""
    return staging.read(folder, staging.REPORT)
