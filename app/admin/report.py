"""What was backed up, restored or found, for people and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.table import Table
from rich.text import Text

from app.admin import screen
from app.admin.backup import Made
from app.admin.findings import Finding, Level
from app.admin.record import Record
from app.admin.restore import Restored
from settings import Settings

_MARKS = {Level.ok: ("✓", "green"), Level.warning: ("!", "yellow"), Level.problem: ("✗", "red")}
_ALIKE = 5


def backup(made: Made) -> None:
    """Shows a new backup."""
    kept = made.record
    screen.say("backup", str(made.folder))
    screen.say("", f"{_contents(kept)}; {screen.size(kept.bytes)}")
    if made.shared_bytes:
        screen.say(
            "",
            f"{screen.size(made.shared_bytes)} of it take no space: it shares them with the home.",
        )
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
    own = {"folder": str(made.folder), "shared_bytes": made.shared_bytes, "lost": made.lost}
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


def doctor(settings: Settings, findings: Sequence[Finding]) -> None:
    """Shows what was found: what is well first, what is not last, where the eye is."""
    screen.say("home", f"{settings.home}\n")
    table = Table(box=None, show_header=False, pad_edge=False)
    for column in ("", "about", "what"):
        table.add_column(column, overflow="fold")
    for level in Level:
        shown = [one for one in findings if one.level is level]
        for alike, group in groupby(shown, key=lambda one: (one.about, one.hint)):
            _add(table, level, alike, [one.message for one in group])
    screen.console().print(table)
    screen.console().print(_sum(findings))


def doctor_as_dict(settings: Settings, findings: Sequence[Finding]) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "home": str(settings.home),
        "worst": _worst(findings).value,
        "findings": [asdict(one) for one in findings],
    }


def _add(table: Table, level: Level, alike: tuple[str, str], messages: list[str]) -> None:
    about, hint = alike
    mark, style = _MARKS[level]
    for message in messages[:_ALIKE]:
        table.add_row(Text(mark, style=style), Text(about), Text(message))
    if len(messages) > _ALIKE:
        table.add_row("", "", f"… and {len(messages) - _ALIKE:,} more; --json names all")
    if hint:
        table.add_row("", "", Text(hint, style="dim"))


def _sum(findings: Sequence[Finding]) -> Text:
    worst = _worst(findings)
    counts = {level: sum(one.level is level for one in findings) for level in reversed(Level)}
    bad = [
        screen.counted(counts[one], one) for one in counts if one is not Level.ok and counts[one]
    ]
    return Text(f"\n{', '.join(bad) or 'All is well'}.", style=_MARKS[worst][1])


def _worst(findings: Sequence[Finding]) -> Level:
    levels = {one.level for one in findings}
    return next((level for level in reversed(Level) if level in levels), Level.ok)


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
