"""What was backed up or restored, for people and as JSON."""

from typing import Any

from app.admin import screen
from app.admin.backup import Made
from app.admin.record import Record
from app.admin.restore import Restored


def backup(made: Made) -> None:
    """Shows a new backup."""
    kept = made.record
    screen.say("backup", str(made.folder))
    screen.say("", f"{_contents(kept)}; {screen.size(kept.bytes)}")
    shared = kept.bytes - made.own_bytes
    if shared:
        screen.say("", f"{screen.size(shared)} of it take no space: it shares them with the home.")
        screen.say(
            "note", "It lies on the home's disk. Copy it to another one too.", style="yellow"
        )
    if not kept.datasets:
        screen.say("note", "Data sets are not in it; --datasets takes them along.", style="yellow")
    if made.lost:
        named = ", ".join(made.lost[:3]) + (" …" if len(made.lost) > 3 else "")
        lost = f"{screen.counted(len(made.lost), 'checkpoint')} left out, without files: {named}"
        screen.say("warning", lost, style="bold yellow")
    screen.say("restore", f"danlu restore {made.folder} --home NEW")


def backup_as_dict(made: Made) -> dict[str, Any]:
    """The same as JSON."""
    own = {"folder": str(made.folder), "own_bytes": made.own_bytes, "lost": made.lost}
    return own | _as_dict(made.record)


def restore(restored: Restored) -> None:
    """Shows a new home."""
    kept = restored.record
    screen.say("home", str(restored.home))
    screen.say("", f"{_contents(kept)}; as of {kept.created_at:%Y-%m-%d %H:%M:%S} UTC")
    if restored.queued:
        jobs = screen.counted(len(restored.queued), "job goes on", "jobs go on")
        screen.say("", f"{jobs} from where it was: {', '.join(restored.queued[:3])}")
    for name, why in restored.left_out.items():
        screen.say("left out", f"{name} {why}", style="bold yellow")
    if not kept.datasets:
        detail = f"The backup holds no data sets; they were in {kept.datasets_dir}."
        screen.say("note", detail, style="yellow")
    screen.say("start", f"danlu serve --home {restored.home}")


def restore_as_dict(restored: Restored) -> dict[str, Any]:
    """The same as JSON."""
    own = {
        "folder": str(restored.home),
        "queued": restored.queued,
        "left_out": restored.left_out,
    }
    return own | _as_dict(restored.record)


def _contents(kept: Record) -> str:
    checkpoints = screen.counted(kept.checkpoints, "checkpoint")
    parts = [screen.counted(sum(kept.jobs.values()), "job"), checkpoints]
    if kept.datasets:
        parts.append(screen.counted(len(kept.datasets), "data set"))
    return ", ".join(parts)


def _as_dict(kept: Record) -> dict[str, Any]:
    return kept.model_dump(mode="json", exclude={"files", "format"})
