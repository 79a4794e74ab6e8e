import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.admin.checks import store
from app.admin.findings import Finding, Level
from database import backups

Spoil = Callable[[Path], None]


def contents(used: Any) -> backups.Contents:
    return backups.contents(used.settings.home / "danlu.sqlite3")


def look(used: Any, *, checksums: bool = True) -> list[Finding]:
    def told(_what: str, _done: int, _total: int) -> None:
        pass

    return list(store.checkpoints(used.settings, contents(used), checksums=checksums, told=told))


def left(used: Any) -> list[str]:
    found = list(store.leftovers(used.settings, contents(used)))
    assert all(one.level is Level.warning and one.hint for one in found)
    return [one.message for one in found]


def age(path: Path) -> Path:
    os.utime(path, (1, 1))
    return path


def test_whole_checkpoints(used: Any) -> None:
    heard: list[tuple[str, int, int]] = []
    told = lambda *said: heard.append(said)  # noqa: E731

    [found] = store.checkpoints(used.settings, contents(used), checksums=True, told=told)

    assert (found.level, found.message) == (Level.ok, "4 checkpoints, 16.1 MB, checksums agree.")
    what, done, total = heard[-1]
    assert what == "checksums"
    assert 0 < done <= total


def test_damaged_and_missing_ones(used: Any, spoil: Spoil) -> None:
    root = used.settings.checkpoints
    spoil(root / used.running.best / "model.safetensors")
    shutil.rmtree(root / used.succeeded.best)

    found = {one.message for one in look(used)}

    assert found == {
        f"{used.running.best}: model.safetensors is not what was saved.",
        f"{used.succeeded.best}: its files are missing.",
    }
    assert all(one.level is Level.problem for one in look(used))


def test_a_damaged_one_that_an_app_predicts_with(used: Any, spoil: Spoil) -> None:
    best = used.succeeded.best
    with sqlite3.connect(used.settings.home / "danlu.sqlite3") as connection:
        row = ("production", best, "2026-01-01 12:00:00.000000", "lin")
        connection.execute("INSERT INTO aliases VALUES (?, ?, ?, ?)", row)
    connection.close()
    spoil(used.settings.checkpoints / best / "model.safetensors")

    [found] = look(used)

    assert found.message.endswith("is not what was saved. production points at it.")


def test_checksums_may_be_left_out(used: Any, spoil: Spoil) -> None:
    spoil(used.settings.checkpoints / used.running.best / "model.safetensors")

    [found] = look(used, checksums=False)

    assert found.level is Level.ok
    assert "not compared" in found.message


def test_one_that_is_pruned_meanwhile_is_no_loss(used: Any) -> None:
    before = contents(used)
    backups.without(used.settings.home / "danlu.sqlite3", [used.running.checkpoint_ids[0]])
    shutil.rmtree(used.settings.checkpoints / used.running.checkpoint_ids[0])

    [found] = store.checkpoints(used.settings, before, checksums=False, told=lambda *_: None)

    assert found.level is Level.ok


def test_a_best_checkpoint_without_a_row(used: Any) -> None:
    known = backups.Contents(jobs={"job_1": "succeeded"}, without_best=frozenset({"job_1"}))

    found = list(store.checkpoints(used.settings, known, checksums=True, told=lambda *_: None))

    assert [one.level for one in found] == [Level.ok, Level.problem]
    assert "job_1" in found[1].message


def test_nothing_is_left_over(used: Any) -> None:
    (used.settings.runs / used.running.job_id / "process.json").write_text("{}")

    assert left(used) == []


def test_folders_that_nobody_knows(used: Any) -> None:
    root = used.settings.checkpoints
    for name in ("ckpt_young", "ckpt_old"):
        shutil.copytree(root / used.running.best, root / name)
    (root / ".tmp-ckpt_young").mkdir()
    (root / ".tmp-ckpt_old").mkdir()
    (used.settings.runs / "job_old").mkdir()
    for name in ("checkpoints/ckpt_old", "checkpoints/.tmp-ckpt_old", "runs/job_old"):
        age(used.settings.home / name)

    unknown, cut_off, ownerless = left(used)

    assert unknown.startswith("1 folder in")
    assert unknown.endswith("4.0 MB, unknown to the database.")
    assert cut_off.endswith("0 B, cut off.")
    assert ownerless.endswith("without a job: job_old")


def test_a_process_that_its_job_has_outlived(used: Any) -> None:
    (used.settings.runs / used.succeeded.job_id / "process.json").write_text("{}")

    [found] = left(used)

    assert used.succeeded.job_id in found


def test_a_home_without_anything(settings: Any) -> None:
    told = lambda *_: None  # noqa: E731
    empty = backups.Contents()

    [found] = store.checkpoints(settings, empty, checksums=True, told=told)

    assert (found.level, found.message) == (Level.ok, "There are none yet.")
    assert list(store.leftovers(settings, empty)) == []
