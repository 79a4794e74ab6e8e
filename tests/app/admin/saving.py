"""A program that saves and prunes checkpoints of one job as fast as it can, until stdin closes.

In the order of `workers.saver` and `models_store.checkpoints`, but without torch and without
waiting for the disk: so nothing happens to be slow enough to go well. Prints a line for its first
one, and at the end how many there were. With each it also replaces the job's state.
"""

import hashlib
import json
import select
import shutil
import sys
from pathlib import Path

from sqlalchemy.orm import Session, sessionmaker

from database import checkpoints as rows
from database import engine, ids, jobs
from models_store.folders import MANIFEST, UNFINISHED
from models_store.manifest import Manifest
from settings import Settings


def main(home: str, keep: str) -> None:
    settings = Settings(home=Path(home))
    sessions = engine.session_factory(engine.connect(settings.database))
    template = Manifest.model_validate_json((settings.home / "template.json").read_bytes())
    fence = begin(sessions)
    epoch = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        epoch += 1
        replace_state(settings.runs / fence.job_id, epoch)
        given = {"id": ids.new("ckpt"), "job_id": fence.job_id, "epoch": epoch}
        save(settings, sessions, fence, template.model_copy(update=given))
        prune(settings, sessions, fence, int(keep))
        if epoch == 1:
            sys.stdout.write("saving\n")
            sys.stdout.flush()
    sys.stdout.write(f"{epoch}\n")


def begin(sessions: sessionmaker[Session]) -> jobs.Fence:
    with sessions.begin() as session:
        jobs.enqueue(session, kind="train", dataset="digits", recipe={}, owner="lin")
    with sessions.begin() as session:
        job = jobs.claim(session, worker_id=ids.new("worker"), host="h", device="cpu")
        assert job is not None
        fence = jobs.fence_of(job)
        assert jobs.start(session, fence, pid=1, device="cpu")
    return fence


def save(
    settings: Settings, sessions: sessionmaker[Session], fence: jobs.Fence, manifest: Manifest
) -> None:
    weights = json.dumps([manifest.epoch] * 100).encode()
    sealed = manifest.model_copy(
        update={"files": {"model.safetensors": hashlib.sha256(weights).hexdigest()}}
    )
    folder = settings.checkpoints / f"{UNFINISHED}{manifest.id}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / MANIFEST).write_text(sealed.model_dump_json())
    folder.rename(settings.checkpoints / manifest.id)
    with sessions.begin() as session:
        assert rows.add(
            session,
            fence,
            checkpoint_id=manifest.id,
            epoch=manifest.epoch,
            val_accuracy=1 - 1 / (manifest.epoch + 1),  # each is better than the last
            val_loss=1.0,
            disk_bytes=1,
        )


def prune(
    settings: Settings, sessions: sessionmaker[Session], fence: jobs.Fence, keep: int
) -> None:
    with sessions.begin() as session:
        leaving = rows.prunable(session, fence.job_id, keep=keep)
        for checkpoint_id in leaving:
            rows.remove(session, checkpoint_id)
    for checkpoint_id in leaving:
        folder = settings.checkpoints / checkpoint_id
        shutil.rmtree(folder.rename(folder.with_name(f"{UNFINISHED}{checkpoint_id}")))


def replace_state(run: Path, epoch: int) -> None:
    fresh, old = run / ".tmp-state", run / ".tmp-old"
    fresh.mkdir(parents=True)
    for name in ("optimizer.json", "progress.json"):
        (fresh / name).write_text(json.dumps({"epoch": epoch}))
    if (run / "state").exists():
        (run / "state").rename(old)
    fresh.rename(run / "state")
    shutil.rmtree(old, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
