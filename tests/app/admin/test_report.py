from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.admin import backup, report, restore
from app.admin.findings import Finding, Level, fine, problem, warning
from settings import Settings

Captured = pytest.CaptureFixture[str]


def test_a_backup(
    used: Any, back_up: Callable[..., backup.Made], tmp_path: Path, capsys: Captured
) -> None:
    made = back_up(used.settings, tmp_path / "backup")

    report.backup(made)

    said = capsys.readouterr().out
    assert f"backup   {tmp_path / 'backup'}\n" in said
    assert "2 jobs, 4 checkpoints" in said
    assert "shares them with the home" in said
    assert "--datasets" in said
    assert f"danlu restore {tmp_path / 'backup'} --home NEW" in said
    document = report.backup_as_dict(made)
    assert document["folder"] == str(tmp_path / "backup")
    assert document["jobs"] == {"succeeded": 1, "running": 1}
    assert "files" not in document


def test_a_backup_that_had_to_leave_something_out(
    used: Any, back_up: Callable[..., backup.Made], tmp_path: Path, capsys: Captured
) -> None:
    made = back_up(used.settings, tmp_path / "backup")
    lost = backup.Made(made.folder, made.record, 0, ["ckpt_1"] * 5)

    report.backup(lost)

    said = capsys.readouterr().out
    assert "5 checkpoints left out, without files: ckpt_1, ckpt_1, ckpt_1 …" in said
    assert "shares" not in said


def test_a_restored_home(
    used: Any, backed_up: Path, bring_back: Callable[..., restore.Restored], tmp_path: Path,
    capsys: Captured,
) -> None:  # fmt: skip
    restored = bring_back(Settings(home=tmp_path / "new"), backed_up)

    report.restore(restored)

    said = capsys.readouterr().out
    assert f"home     {tmp_path / 'new'}\n" in said
    assert f"1 job goes on from where it was: {used.running.job_id}" in said
    assert f"they were in {used.settings.datasets}" in said
    assert f"danlu serve --home {tmp_path / 'new'}" in said
    assert report.restore_as_dict(restored)["queued"] == [used.running.job_id]


def test_what_is_wrong_comes_last_with_what_to_do(settings: Settings, capsys: Captured) -> None:
    found = [problem("disk", "It is full.", "Free some."), fine("home", "Fine."),
             warning("limits", "Few files.", "Raise it.")]  # fmt: skip

    report.doctor(settings, found)

    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        f"home     {settings.home}",
        "",
        "✓  home    Fine.",
        "!  limits  Few files.",
        "           Raise it.",
        "✗  disk    It is full.",
        "           Free some.",
        "",
        "1 problem, 1 warning.",
    ]


def test_many_of_a_kind_are_not_all_shown(settings: Settings, capsys: Captured) -> None:
    found = [problem("checkpoints", f"ckpt_{number}", "Restore.") for number in range(9)]

    report.doctor(settings, found)

    said = capsys.readouterr().out
    assert "ckpt_4" in said
    assert "ckpt_5" not in said
    assert "… and 4 more; --json names all" in said
    assert said.count("Restore.") == 1
    assert "9 problems." in said


@pytest.mark.parametrize(
    ("found", "worst"),
    [([], "ok"), ([fine("a", "b")], "ok"), ([fine("a", "b"), warning("a", "b", "c")], "warning")],
)
def test_the_worst(settings: Settings, found: list[Finding], worst: str, capsys: Captured) -> None:
    document = report.doctor_as_dict(settings, found)
    report.doctor(settings, found)

    assert document["worst"] == worst
    assert document["home"] == str(settings.home)
    assert [one["level"] for one in document["findings"]] == [one.level for one in found]
    assert ("All is well." in capsys.readouterr().out) == (worst == Level.ok)
