"""`backup.json`: what is in a backup, so that a damaged one is noticed. Written last of all."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from app.admin import links
from app.admin.refusal import Refused
from models_store import folders

NAME = "backup.json"
DATABASE = "danlu.sqlite3"
CHECKPOINTS, RUNS, DATASETS = "checkpoints", "runs", "datasets"

Told = Callable[[str, int, int], object]
"""Hears how far the work is: what is done now, how much of it, of how much."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileRecord(_Part):
    """One file."""

    bytes: int
    sha256: str


class FolderRecord(_Part):
    """A data set: too many files to name each."""

    files: int
    bytes: int


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("a path that leads out of the backup")
    return name


Inside = Annotated[str, AfterValidator(_inside)]


class Record(_Part):
    """All of a backup. `files` by their paths in it; `home` and `datasets_dir` as they were."""

    format: Literal[1] = 1
    danlu: str
    created_at: datetime
    home: str
    datasets_dir: str
    database_revision: str | None
    jobs: dict[str, int]
    checkpoints: int
    bytes: int
    files: dict[Inside, FileRecord]
    datasets: dict[str, FolderRecord]


def write(folder: Path, record: Record) -> None:
    """Makes `folder` a backup."""
    (folder / NAME).write_text(record.model_dump_json(indent=1), encoding="utf-8")


def read(folder: Path) -> Record:
    """Raises `Refused`: no_backup, backup_damaged."""
    hint = "Name the folder that danlu backup made; what ends in .unfinished was cut off."
    try:
        found = (folder / NAME).read_bytes()
    except OSError as error:
        why = error.strerror or str(error)
        raise Refused("no_backup", f"{folder} is no backup: {NAME}: {why}.", hint=hint) from None
    try:
        return Record.model_validate_json(found)
    except ValueError:
        raise Refused(
            "backup_damaged", f"{folder / NAME} cannot be read.", hint=DAMAGED_HINT, exit_code=1
        ) from None


DAMAGED_HINT = "Take another backup."


def measure(folder: Path, told: Told) -> dict[str, FileRecord]:
    """Every file of the database, the checkpoints and the runs. Weights are not read: their
    checksums are in the manifests.
    """
    checkpoints = folder / CHECKPOINTS
    files = [folder / DATABASE, *_files(checkpoints), *_files(folder / RUNS)]
    found = {}
    for done, file in enumerate(files):
        told("checksums", done, len(files))
        seals = folders.seals(file.parent) if file.parent.parent == checkpoints else {}
        sha256 = seals.get(file.name) or folders.sha256(file)
        name = file.relative_to(folder).as_posix()
        found[name] = FileRecord(bytes=file.stat().st_size, sha256=sha256)
    return found


def damaged(folder: Path, record: Record, told: Told) -> dict[str, str]:
    """What is wrong with which file or data set of a backup. Raises OSError."""
    wrong = {}
    total, done = sum(file.bytes for file in record.files.values()), 0

    def read(count: int) -> None:
        nonlocal done
        done += count
        told("checksums", done, total)

    for name, expected in record.files.items():
        file = folder / name
        if not file.is_file():
            wrong[name] = "is missing"
        elif file.stat().st_size != expected.bytes or folders.sha256(file, read) != expected.sha256:
            wrong[name] = "is not what was saved"
    present = weigh(folder / DATASETS)
    for name, saved in record.datasets.items():
        if present.get(name) != saved:
            wrong[f"{DATASETS}/{name}"] = "has other files than were saved"
    return wrong


def weigh(datasets: Path) -> dict[str, FolderRecord]:
    """Each data set of a folder of them. Raises OSError."""
    found = {}
    for path in sorted(datasets.glob("[!.]*")):
        if path.is_dir():
            files, count = links.weigh(path)
            found[path.name] = FolderRecord(files=files, bytes=count)
    return found


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())
