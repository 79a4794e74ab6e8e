"""Checkpoints on disk: one folder each, written whole or not at all, checked when read.

`model.safetensors` holds the weights and nothing that can run code; `manifest.json` the rest.
Knows nothing of the rows that point here.
"""

import contextlib
import hashlib
import io
import os
import shutil
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from models_store.folders import MANIFEST, UNFINISHED, damaged
from models_store.manifest import Manifest
from problems import Problem

WEIGHTS = "model.safetensors"


def save(root: Path, state: Mapping[str, torch.Tensor], manifest: Manifest) -> Path:
    """Writes `root/<manifest.id>`: temporary folder, fsync, rename. Returns the folder.

    After a crash there is the whole checkpoint or an unfinished folder that `sweep` removes.
    """
    folder = root / manifest.id
    unfinished = root / f"{UNFINISHED}{manifest.id}"
    unfinished.mkdir(parents=True)
    try:
        tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
        weights = save_safetensors(tensors, metadata={"format": "pt"})
        sealed = manifest.model_copy(update={"files": {WEIGHTS: _sha256(weights)}})
        _write(unfinished / WEIGHTS, weights)
        _write(unfinished / MANIFEST, sealed.model_dump_json(indent=2).encode())
        _sync(unfinished)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    _sync(root)
    return folder


def read_manifest(folder: Path) -> Manifest:
    """Raises `Problem`: checkpoint_not_found, checkpoint_damaged."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise Problem(
            "checkpoint_not_found", f"The files of checkpoint {folder.name} are not there."
        ) from None
    except ValueError as error:
        raise damaged(folder, "its manifest cannot be read") from error


def read_state(folder: Path, manifest: Manifest) -> dict[str, torch.Tensor]:
    """The weights, on the CPU, checksum compared. Raises `Problem` checkpoint_damaged."""
    try:
        weights = (folder / WEIGHTS).read_bytes()
    except FileNotFoundError:
        raise damaged(folder, f"{WEIGHTS} is missing") from None
    if _sha256(weights) != manifest.files.get(WEIGHTS):
        raise damaged(folder, f"{WEIGHTS} is not what was saved")
    try:
        return load_safetensors(weights)
    except SafetensorError as error:
        raise damaged(folder, f"{WEIGHTS} cannot be read") from error


def as_pt(state: Mapping[str, torch.Tensor]) -> bytes:
    """The weights as `torch.save` writes a plain state_dict, for `load_state_dict` elsewhere, in
    the order that they have: on disk it is not the network's.
    """
    file = io.BytesIO()
    torch.save(dict(state), file)
    return file.getvalue()


def disk_bytes(folder: Path) -> int:
    """Bytes of all files of a checkpoint."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def remove(folder: Path) -> None:
    """Frees the disk. The folder leaves its name first, so no reader meets half a checkpoint."""
    leaving = folder.with_name(f"{UNFINISHED}{folder.name}")
    try:
        folder.rename(leaving)
    except FileNotFoundError:
        return
    with contextlib.suppress(FileNotFoundError):  # a sweep may take it first
        shutil.rmtree(leaving)


def sweep(
    root: Path,
    known: Collection[str],
    *,
    epochs: Mapping[str, int],
    older_than_seconds: float = 3600.0,
) -> list[str]:
    """Removes what a crash left: unfinished folders, and checkpoints that have no row although
    their job has one of their epoch, or of a later one: `epochs` has the last of each.

    Younger folders stay, for another worker may be writing them; so does whatever is not ours, and
    checkpoints of jobs or epochs that no row knows: the database may be another one than they were
    saved with, or older. Returns the names removed.
    """
    latest = time.time() - older_than_seconds
    removed = []
    for folder in root.glob("*"):
        with contextlib.suppress(FileNotFoundError):  # another worker sweeps too
            if folder.stat().st_mtime < latest and _is_left(folder, known, epochs):
                shutil.rmtree(folder)
                removed.append(folder.name)
    return removed


def _is_left(folder: Path, known: Collection[str], epochs: Mapping[str, int]) -> bool:
    if folder.name.startswith(UNFINISHED):
        return True
    if folder.name in known:
        return False
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return manifest.epoch <= epochs.get(manifest.job_id or "", -1)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Makes the names in a folder durable."""
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
