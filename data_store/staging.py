"""Where a data set lies while it is made, and how it takes its place: as a whole or not at all.

A hidden folder beside the data sets, which `catalog` does not see, named after the job and its
claim. Knows nothing of archives and of what is found in images.
"""

import json
import logging
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from data_store import durable

log = logging.getLogger(__name__)

PREFIX = ".import-"
HIDDEN = ".danlu"
"""In a data set's folder: what is known about it."""
ORIGIN, REPORT = "origin.json", "report.json"

_SET, _OLD = "set", "old"
_SWEPT = ".swept-"


class Staging:
    """The folder of one attempt to make the data set `name` in `datasets`."""

    def __init__(self, datasets: Path, job_id: str, claim: int, name: str) -> None:
        self._datasets = datasets
        self._job = job_id
        self.folder = datasets / f"{PREFIX}{job_id}.{claim}"
        self.set = self.folder / _SET
        self.target = datasets / name

    def begin(self) -> None:
        """Makes the folder, and undoes what earlier attempts of the job left."""
        self._datasets.mkdir(parents=True, exist_ok=True)
        for left in self._datasets.glob(f"{PREFIX}{self._job}.*"):
            _undo(left, self._datasets)
        self.folder.mkdir()

    def describe(self, origin: dict[str, Any], report: dict[str, Any]) -> None:
        """Writes what is known about the set into its hidden folder."""
        hidden = self.set / HIDDEN
        hidden.mkdir()
        for name, record in ((REPORT, report), (ORIGIN, origin)):
            text = json.dumps(record, ensure_ascii=False)
            (hidden / name).write_text(text, encoding="utf-8")

    def take_place(self) -> None:
        """The set is in its place when this returns, and what was there before is on its way out.

        Between two renames there is none; who is killed there has it put back by `begin`, `sweep`.
        """
        if os.path.lexists(self.target):
            old = self.folder / _OLD
            old.mkdir()
            self.target.rename(old / self.target.name)
        self.set.rename(self.target)
        durable.folder_to_disk(self._datasets)

    def end(self) -> None:
        """Removes the folder, whatever is in it."""
        _undo(self.folder, self._datasets)

    def is_done(self) -> bool:
        """Whether an earlier attempt of the job has made the set already."""
        return (read(self.target, ORIGIN) or {}).get("job") == self._job


def jobs(datasets: Path) -> set[str]:
    """The ids of those that left something behind, or are at work."""
    return {_job(left) for left in datasets.glob(f"{PREFIX}*")}


def sweep(datasets: Path, over: Collection[str]) -> None:
    """Undoes what these jobs left behind, which are over: their processes were killed. Quick: the
    sets that they had moved are in their places when this returns, and the rest is left to `clear`.
    """
    for left in datasets.glob(f"{PREFIX}*"):
        if _job(left) in over:
            try:
                _put_back(left, datasets)
                # Half removed, a set that was replaced must not be put back by another sweep.
                left.rename(datasets / f"{_SWEPT}{uuid4().hex}")
            except OSError as error:
                log.warning("%s cannot be swept: %s", left, error)


def clear(datasets: Path) -> None:
    """Removes what was swept, also what an earlier process did not get done with: 60,000 files take
    a minute where the disk is busy.
    """
    for swept in datasets.glob(f"{_SWEPT}*"):
        shutil.rmtree(swept, ignore_errors=True)
        if swept.exists():
            log.warning("%s cannot be removed", swept)


def read(folder: Path, name: str) -> dict[str, Any] | None:
    """A record of a data set, ORIGIN or REPORT; None where there is none."""
    with suppress(OSError, ValueError):
        found = json.loads((folder / HIDDEN / name).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else None
    return None


def _job(left: Path) -> str:
    return left.name.removeprefix(PREFIX).rpartition(".")[0]


def _undo(left: Path, datasets: Path) -> None:
    _put_back(left, datasets)
    shutil.rmtree(left, ignore_errors=True)


def _put_back(left: Path, datasets: Path) -> None:
    for old in _inside(left / _OLD):
        if not os.path.lexists(datasets / old.name):
            old.rename(datasets / old.name)


def _inside(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from folder.iterdir()
