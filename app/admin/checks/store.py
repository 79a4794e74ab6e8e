"""Checkpoints and runs: whether every row has its files, whole, and which files nobody knows."""

import time
from collections.abc import Iterator
from pathlib import Path

from app.admin import links, screen
from app.admin.findings import Finding, fine, problem, warning
from app.admin.record import Told
from database import backups, files
from database.backups import Contents
from database.tables import AT_WORK
from models_store import folders
from settings import Settings

# Younger ones may be on their way.
_STALE_SECONDS = 3600.0
_PROCESS = "process.json"
_ORPHANS = (
    "The worker removes what a crash left of jobs when it starts next. What stays may be deleted, "
    "unless the database is an older one than they were saved with, or another."
)


def checkpoints(
    settings: Settings, contents: Contents, *, checksums: bool, told: Told
) -> Iterator[Finding]:
    """The files of every checkpoint that the database knows, and its best ones."""
    root, known = settings.checkpoints, sorted(contents.checkpoint_ids)
    sizes = {name: links.weigh(root / name)[1] for name in known if (root / name).is_dir()}
    total, done = sum(sizes.values()), 0

    def read(count: int) -> None:
        nonlocal done
        done += count
        told("checksums", done, total)

    faults = {name: folders.fault(root / name, checksums=checksums, read=read) for name in known}
    wrong = _still_known(settings, {name: fault for name, fault in faults.items() if fault})
    hint = "Use another one of the job, or restore a backup. DELETE /checkpoints/{id} forgets it."
    for name, fault in wrong.items():
        pointing = [alias for alias, target in contents.aliases.items() if target == name]
        served = f" {', '.join(pointing)} points at it." if pointing else ""
        yield problem("checkpoints", f"{name}: {fault}.{served}", hint)
    if not wrong:
        agree = ", checksums agree" if checksums else "; checksums were not compared"
        said = f"{screen.counted(len(known), 'checkpoint')}, {screen.size(total)}{agree}."
        yield fine("checkpoints", said if known else "There are none yet.")
    if contents.without_best:
        named = _some(sorted(contents.without_best))
        yield problem(
            "checkpoints",
            f"The best checkpoint of {named} is unknown to the database.",
            "Predict with another one of the job: danlu checkpoints JOB lists them.",
        )


def leftovers(settings: Settings, contents: Contents) -> Iterator[Finding]:
    """Folders that nobody knows any more."""
    root = settings.checkpoints
    orphans = [name for name in folders.finished(root) if name not in contents.checkpoint_ids]
    for names, what, hint in (
        (orphans, "unknown to the database", _ORPHANS),
        (folders.unfinished(root), "cut off", "The worker removes them when it starts next."),
    ):
        stale = [root / name for name in names if _is_stale(root / name)]
        if stale:
            size = screen.size(sum(links.weigh(folder)[1] for folder in stale))
            yield warning(
                "checkpoints",
                f"{screen.counted(len(stale), 'folder')} in {root}, {size}, {what}.",
                hint,
            )
    runs = [run for run in settings.runs.glob("job_*") if run.name not in contents.jobs]
    if ownerless := sorted(run.name for run in runs if _is_stale(run)):
        said = f"{screen.counted(len(ownerless), 'folder')} in {settings.runs} without a job: "
        yield warning("runs", said + _some(ownerless), "They may be deleted.")
    if ended := sorted(_of_ended(settings.runs, contents)):
        said = f"A {_PROCESS} is left of {_some(ended)}, which is not at work."
        yield warning("runs", said, "The worker clears it away when it starts next.")


def _still_known(settings: Settings, wrong: dict[str, str]) -> dict[str, str]:
    """Those that the database still knows: one that was pruned meanwhile is no loss."""
    path = files.path_of(settings.database)
    if not wrong or path is None:
        return wrong
    known = backups.contents(path).checkpoint_ids
    return {name: fault for name, fault in wrong.items() if name in known}


def _of_ended(runs: Path, contents: Contents) -> Iterator[str]:
    for file in runs.glob(f"job_*/{_PROCESS}"):
        job_id = file.parent.name
        if job_id in contents.jobs and contents.jobs[job_id] not in AT_WORK:
            yield job_id


def _is_stale(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > _STALE_SECONDS
    except FileNotFoundError:
        return False


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
