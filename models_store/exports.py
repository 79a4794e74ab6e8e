"""What a checkpoint was exported to: files beside its manifest, each with a record of how it was
made and checked.

Knows names and files; neither torch nor onnx. Exports are not sealed in the manifest: they come
later, and can be made again.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from models_store import report
from models_store.folders import UNFINISHED
from problems import Problem

FOLDER = "exports"
FILES = {"onnx": "model.onnx", "bundle": "bundle.zip"}
SUFFIXES = {"onnx": "onnx", "bundle": "zip"}

Format = Literal["onnx", "bundle"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Check(_Record):
    """How far the logits of onnxruntime are from those of PyTorch, for the same images."""

    images: int
    of: Literal["dataset", "noise"] = Field(description="Images of the data set, or random pixels.")
    largest_difference: float = Field(description="Of a logit.")
    largest_logit: float = Field(description="By size.")
    tolerance: float = Field(description="Times the largest logit, or times 1 if that is less.")


class Export(_Record):
    """One file. `temperature` is what its probabilities were calibrated with."""

    format: Format
    checkpoint_id: str
    job_id: str
    file: str
    bytes: int
    temperature: float
    check: Check
    made_with: dict[str, str]
    created_at: datetime


def path(folder: Path, format_: Format) -> Path:
    """The file of an export in a checkpoint's folder, whether it is there or not."""
    return folder / FOLDER / FILES[format_]


def find(folder: Path, format_: Format) -> Export | None:
    """The record of an export; None without one, and for one whose probabilities are not those of
    the checkpoint any more, because that has been judged since.
    """
    try:
        record = Export.model_validate_json(_record(folder, format_).read_bytes())
        current = report.read_temperature(folder) or 1.0
    except (FileNotFoundError, NotADirectoryError, ValueError, Problem):
        return None
    whole = path(folder, format_).is_file() and record.temperature == current
    return record if whole else None


@contextlib.contextmanager
def unfinished(root: Path, job_id: str, claim: int) -> Iterator[Path]:
    """A folder in the store for files on their way; gone at the end, or swept after a crash.

    Each claim of the job has its own, for an earlier one may still be at work.
    """
    folder = _unfinished(root, job_id, claim)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        forget(root, job_id, claim)


def forget(root: Path, job_id: str, claim: int) -> None:
    """Removes what is unfinished of a claim that is over: its process may have been killed."""
    shutil.rmtree(_unfinished(root, job_id, claim), ignore_errors=True)


def publish(folder: Path, made: Path, record: Export) -> None:
    """Moves a file into a checkpoint's folder, then its record: whole or not there.

    Raises `Problem` checkpoint_not_found when the checkpoint was deleted meanwhile, and OSError.
    """
    told = made.with_name(f"{record.format}.json")
    told.write_text(record.model_dump_json(indent=2), encoding="utf-8")
    for file in (made, told):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    try:
        (folder / FOLDER).mkdir(exist_ok=True)
        _record(folder, record.format).unlink(missing_ok=True)  # it speaks of another file
        made.replace(path(folder, record.format))
        told.replace(_record(folder, record.format))
    except FileNotFoundError:
        raise Problem(
            "checkpoint_not_found", f"{folder.name} was deleted while it was exported."
        ) from None


def _unfinished(root: Path, job_id: str, claim: int) -> Path:
    return root / f"{UNFINISHED}{job_id}.{claim}"


def _record(folder: Path, format_: Format) -> Path:
    return folder / FOLDER / f"{format_}.json"
