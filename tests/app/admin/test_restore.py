import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.admin import backup, record, restore
from app.admin.refusal import Refused
from database import backups, checkpoints, engine, jobs
from models_store import folders
from problems import Problem
from settings import Settings

BackUp = Callable[..., backup.Made]
BringBack = Callable[..., restore.Restored]
Spoil = Callable[[Path], None]


@pytest.fixture
def new(tmp_path: Path) -> Settings:
    """A home that is not there yet."""
    return Settings(home=tmp_path / "new" / "home")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_home_is_as_it_was(
    used: Any, backed_up: Path, new: Settings, bring_back: BringBack
) -> None:
    restored = bring_back(new, backed_up)

    assert restored.home == new.home
    assert restored.left_out == {}
    for name in used.checkpoint_ids:
        assert folders.fault(new.checkpoints / name) is None
    run = new.runs / used.running.job_id
    assert names(run) == {"log.txt", "state"}
    assert json.loads((run / "state" / "state.json").read_text()) == {"epoch": 2}
    assert backups.contents(new.home / "danlu.sqlite3").checkpoint_ids == set(used.checkpoint_ids)


def test_jobs_that_were_at_work_are_queued_without_an_attempt_counted(
    used: Any, backed_up: Path, new: Settings, bring_back: BringBack
) -> None:
    restored = bring_back(new, backed_up)

    assert restored.queued == [used.running.job_id]
    database = engine.connect(new.database)
    with engine.session_factory(database)() as session:
        job = jobs.get(session, used.running.job_id)
        assert (job.state, job.attempt, job.losses) == ("queued", 1, 0)
        assert len(checkpoints.of_job(session, job.id)) == 2
        assert jobs.get(session, used.succeeded.job_id).state == "succeeded"
    database.dispose()


def test_what_grows_is_the_homes_own(
    used: Any, backed_up: Path, new: Settings, bring_back: BringBack
) -> None:
    bring_back(new, backed_up)

    log = f"runs/{used.running.job_id}/log.txt"
    assert not (new.home / log).samefile(backed_up / log)
    assert not (new.home / "danlu.sqlite3").samefile(backed_up / "danlu.sqlite3")


def test_the_home_can_be_backed_up_and_brought_back_again(
    used: Any,
    backed_up: Path,
    new: Settings,
    bring_back: BringBack,
    back_up: BackUp,
    tmp_path: Path,
) -> None:
    bring_back(new, backed_up)
    again = Settings(home=tmp_path / "again")

    bring_back(again, back_up(new, tmp_path / "second").folder)

    assert names(again.checkpoints) == set(used.checkpoint_ids)


def test_to_another_disk(
    used: Any, backed_up: Path, other_disk: Path, bring_back: BringBack
) -> None:
    settings = Settings(home=other_disk / "home")

    bring_back(settings, backed_up)

    assert names(settings.checkpoints) == set(used.checkpoint_ids)


def test_an_empty_volume_is_empty_enough(
    backed_up: Path, new: Settings, bring_back: BringBack
) -> None:
    (new.home / "lost+found").mkdir(parents=True)

    bring_back(new, backed_up)

    assert (new.home / "danlu.sqlite3").is_file()


def test_a_used_home_is_never_written_over(
    used: Any, backed_up: Path, bring_back: BringBack, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for home in (used.settings.home, tmp_path / "file", backed_up / "home"):
        with pytest.raises(Refused) as refused:
            bring_back(Settings(home=home), backed_up)
        assert (refused.value.code, refused.value.exit_code) == ("home_not_empty", 2)


def test_a_database_elsewhere_is_never_written_over(
    used: Any, backed_up: Path, new: Settings, bring_back: BringBack
) -> None:
    for url in (used.settings.database, "postgresql://host/danlu"):
        with pytest.raises(Refused) as refused:
            bring_back(Settings(home=new.home, database_url=url), backed_up)
        assert refused.value.code == "home_not_empty"
        assert not new.home.exists()


@pytest.mark.parametrize("written", [None, "{", '{"format": 2}'])
def test_what_is_no_backup(
    written: str | None, new: Settings, bring_back: BringBack, tmp_path: Path
) -> None:
    folder = tmp_path / "backup.unfinished"
    folder.mkdir()
    if written is not None:
        (folder / "backup.json").write_text(written)

    with pytest.raises(Refused) as refused:
        bring_back(new, folder)

    assert refused.value.code == ("no_backup" if written is None else "backup_damaged")
    assert not new.home.exists()


def test_a_record_that_leads_out_of_the_backup(
    backed_up: Path, new: Settings, bring_back: BringBack
) -> None:
    text = (backed_up / "backup.json").read_text()
    (backed_up / "backup.json").write_text(text.replace("checkpoints/ckpt_", "../ckpt_"))

    with pytest.raises(Refused, match="cannot be read"):
        bring_back(new, backed_up)


def test_damage_is_named_and_nothing_is_made(
    used: Any, backed_up: Path, new: Settings, bring_back: BringBack, spoil: Spoil
) -> None:
    best = used.running.best
    spoil(backed_up / "checkpoints" / best / "model.safetensors")
    (backed_up / "runs" / used.running.job_id / "log.txt").unlink()

    with pytest.raises(Refused) as refused:
        bring_back(new, backed_up)

    assert (refused.value.code, refused.value.exit_code) == ("backup_damaged", 1)
    assert f"{best}/model.safetensors is not what was saved" in refused.value.detail
    assert "log.txt is missing" in refused.value.detail
    assert "--without-damaged" in refused.value.hint
    assert not new.home.exists()


def test_the_rest_of_a_damaged_backup(
    used: Any, backed_up: Path, new: Settings, bring_back: BringBack, spoil: Spoil
) -> None:
    best, worse = used.running.best, used.running.checkpoint_ids[0]
    spoil(backed_up / "checkpoints" / best / "model.safetensors")

    restored = bring_back(new, backed_up, without_damaged=True)

    assert list(restored.left_out) == [f"checkpoints/{best}/model.safetensors"]
    assert not (new.checkpoints / best).exists()
    found = backups.contents(new.home / "danlu.sqlite3")
    assert found.checkpoint_ids == set(used.checkpoint_ids) - {best}
    assert found.without_best == frozenset()
    assert folders.fault(new.checkpoints / worse) is None


def test_without_its_database_a_backup_is_nothing(
    backed_up: Path, new: Settings, bring_back: BringBack, spoil: Spoil
) -> None:
    spoil(backed_up / "danlu.sqlite3")

    with pytest.raises(Refused) as refused:
        bring_back(new, backed_up, without_damaged=True)
    assert "--without-damaged" not in refused.value.hint


def test_a_long_list_of_damage_is_cut(
    backed_up: Path, new: Settings, bring_back: BringBack
) -> None:
    shutil.rmtree(backed_up / "checkpoints")

    with pytest.raises(Refused, match="and 4 more"):
        bring_back(new, backed_up)


def test_a_newer_backup_is_refused(backed_up: Path, new: Settings, bring_back: BringBack) -> None:
    database = sqlite3.connect(backed_up / "danlu.sqlite3")
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.commit()
    database.close()
    kept = record.read(backed_up)
    sealed = record.FileRecord(
        bytes=(backed_up / "danlu.sqlite3").stat().st_size,
        sha256=folders.sha256(backed_up / "danlu.sqlite3"),
    )
    files = kept.files | {"danlu.sqlite3": sealed}
    record.write(backed_up, kept.model_copy(update={"files": files}))

    with pytest.raises(Problem) as refused:
        bring_back(new, backed_up)
    assert refused.value.code == "database_newer"
    assert not new.home.exists()


def test_data_sets_come_along_and_are_the_homes_own(
    used: Any, new: Settings, back_up: BackUp, bring_back: BringBack, tmp_path: Path
) -> None:
    for name in ("pets", "cars"):
        image = used.settings.datasets / name / "a" / "1.png"
        image.parent.mkdir(parents=True)
        image.write_bytes(b"image")
    folder = back_up(used.settings, tmp_path / "backup", datasets=True).folder
    elsewhere = Settings(home=new.home, datasets_dir=tmp_path / "sets")
    (tmp_path / "sets" / "cars").mkdir(parents=True)

    restored = bring_back(elsewhere, folder)

    assert restored.left_out == {"datasets/cars": f"is in {tmp_path / 'sets'} already"}
    assert names(tmp_path / "sets") == {"cars", "pets"}
    brought = tmp_path / "sets" / "pets" / "a" / "1.png"
    assert brought.read_bytes() == b"image"
    assert not brought.samefile(folder / "datasets" / "pets" / "a" / "1.png")
    assert not any((tmp_path / "sets" / "cars").iterdir())


def test_a_data_set_that_lacks_files_is_noticed(
    used: Any, new: Settings, back_up: BackUp, bring_back: BringBack, tmp_path: Path
) -> None:
    image = used.settings.datasets / "pets" / "a" / "1.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"image")
    folder = back_up(used.settings, tmp_path / "backup", datasets=True).folder
    (folder / "datasets" / "pets" / "a" / "1.png").unlink()

    with pytest.raises(Refused, match="has other files than were saved"):
        bring_back(new, folder)
    assert list(bring_back(new, folder, without_damaged=True).left_out) == ["datasets/pets"]
    assert not (new.datasets / "pets").exists()


def test_what_breaks_off_leaves_nothing(backed_up: Path, new: Settings, tmp_path: Path) -> None:
    def told(what: str, done: int, _total: int) -> None:
        if what == "files" and done == 3:
            raise KeyboardInterrupt

    for made in (False, True):
        if made:
            new.home.mkdir(parents=True)
        with pytest.raises(KeyboardInterrupt):
            restore.restore(new, backed_up, without_damaged=False, told=told)
        assert new.home.exists() == made
        assert not made or not any(new.home.iterdir())
