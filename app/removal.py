"""Data sets of one's own being deleted: out of sight at once, then off the disk.

Knows no requests. Blocks, so it is called in threads.
"""

import shutil
from pathlib import Path
from threading import Thread
from uuid import uuid4

from app import imports
from app.resources import Resources
from data_store import cache, catalog, durable, names
from problems import Problem

_HIDDEN = ".deleted-"


def remove(held: Resources, name: str) -> Thread:
    """Takes the folder that `name` means out of sight, and begins to delete it, and what was
    decoded of it, in the thread that is returned. Of a link to a folder the link alone is deleted.

    Raises `Problem` dataset_unknown, dataset_in_use, invalid_request for a built-in set.
    """
    root = held.settings.datasets
    name = catalog.canonical(name, root)
    if owner := names.built_in(name):
        raise Problem(
            "invalid_request",
            f"{owner} is built in: it cannot be deleted.",
            hint="Its files lie in DANLU_DATASETS_DIR, where torchvision puts them; they may be "
            "deleted by hand while nothing runs.",
            errors=[{"loc": ["path", "name"], "msg": "a built-in data set"}],
        )
    key = _key(name, root)  # reads the whole folder: before anybody has to wait
    # Nobody can queue a job in this transaction: one that is queued before is seen, and one that
    # comes after finds no data set.
    with held.writing.begin() as session:
        imports.check_unused(session, name)
        hidden = root / f"{_HIDDEN}{uuid4().hex}"
        _rename(root / name, hidden)

    def delete() -> None:
        durable.folder_to_disk(root)
        _delete(hidden)
        if key is not None:
            cache.forget(held.settings.cache, key)

    # 60,000 files take a minute where the disk is busy; a server that stops does not wait.
    deleting = Thread(target=delete, name="deleting", daemon=True)
    deleting.start()
    return deleting


def sweep(root: Path) -> None:
    """Finishes what a killed server left."""
    for folder in root.glob(f"{_HIDDEN}*"):
        _delete(folder)


def _key(name: str, root: Path) -> str | None:
    try:
        return catalog.key(name, root)
    except Problem:  # a folder that cannot be used was never decoded, or long ago
        return None


def _rename(folder: Path, hidden: Path) -> None:
    try:
        folder.rename(hidden)
    except FileNotFoundError:  # another request was faster
        raise Problem("dataset_unknown", f"There is no data set named {folder.name!r}.") from None


def _delete(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink(missing_ok=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)
