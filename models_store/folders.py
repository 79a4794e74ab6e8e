"""What lies in the store of checkpoints, looked at without loading any of it and without torch.

Knows names, sizes and checksums; nothing of what the weights mean.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

from models_store.manifest import Manifest
from problems import Problem

MANIFEST = "manifest.json"
UNFINISHED = ".tmp-"
"""Beginning of the names of folders that are being written or removed."""

_CHUNK_BYTES = 1 << 20


def _unheard(_count: int) -> None:
    pass


def finished(root: Path) -> list[str]:
    """Ids of the checkpoints whose folders are whole, in order."""
    return sorted(
        folder.name
        for folder in root.glob("*")
        if not folder.name.startswith(UNFINISHED) and (folder / MANIFEST).is_file()
    )


def damaged(folder: Path, why: str) -> Problem:
    """The problem of a checkpoint whose files are not what was saved."""
    return Problem(
        "checkpoint_damaged",
        f"Checkpoint {folder.name} is damaged: {why}.",
        hint="Use another checkpoint of the job, or train again.",
    )


def unfinished(root: Path) -> list[str]:
    """Names of folders that somebody writes or removes right now, or that a crash left."""
    return sorted(folder.name for folder in root.glob(f"{UNFINISHED}*"))


def sha256(file: Path, read: Callable[[int], object] = _unheard) -> str:
    """The checksum of a file of any size; `read` hears of each chunk, in bytes. Raises OSError."""
    digest = hashlib.sha256()
    with file.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            read(len(chunk))
    return digest.hexdigest()


def seals(folder: Path) -> dict[str, str]:
    """sha256 of each file beside the manifest, as sealed in it; none if it cannot be read."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes()).files
    except (OSError, ValueError):
        return {}


def fault(
    folder: Path, *, checksums: bool = True, read: Callable[[int], object] = _unheard
) -> str | None:
    """What is wrong with a checkpoint's files, None if nothing is. Raises OSError.

    Without `checksums` only what is missing or cannot be understood is found.
    """
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        return f"{MANIFEST} is missing" if folder.is_dir() else "its files are missing"
    except ValueError:
        return f"{MANIFEST} cannot be read"
    if manifest.id != folder.name:
        return f"{MANIFEST} is that of {manifest.id}"
    for name, expected in sorted(manifest.files.items()):
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if checksums and sha256(file, read) != expected:
            return f"{name} is not what was saved"
    return None
