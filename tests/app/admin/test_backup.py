import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.admin import backup, record
from app.admin.refusal import Refused
from database import backups, checkpoints, engine, files
from models_store import folders
from problems import Problem
from settings import Settings

BackUp = Callable[..., backup.Made]
SAVING = Path(__file__).with_name("saving.py")


def contents(folder: Path) -> backups.Contents:
    return backups.contents(folder / record.DATABASE)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_everything_is_in_it(used: Any, back_up: BackUp, tmp_path: Path) -> None:
    made = back_up(used.settings, tmp_path / "backups" / "monday")

    folder = tmp_path / "backups" / "monday"
    assert made.folder == folder
    assert names(folder) == {"backup.json", "danlu.sqlite3", "checkpoints", "runs"}
    assert names(folder / "checkpoints") == set(used.checkpoint_ids)
    assert all(folders.fault(each) is None for each in (folder / "checkpoints").iterdir())
    assert contents(folder).jobs == {
        used.succeeded.job_id: "succeeded",
        used.running.job_id: "running",
    }
    for job_id in contents(folder).jobs:
        assert names(folder / "runs" / job_id) == {"log.txt", "state"}
    assert made.lost == []
    assert not (tmp_path / "backups" / "monday.unfinished").exists()


def test_weights_and_states_are_shared_with_the_home_and_logs_are_not(
    used: Any, backed_up: Path
) -> None:
    home, job_id = used.settings.home, used.running.job_id
    shared = [
        f"checkpoints/{used.running.best}/model.safetensors",
        f"runs/{job_id}/state/state.json",
    ]
    own = [f"runs/{job_id}/log.txt", "danlu.sqlite3"]

    assert [(home / name).samefile(backed_up / name) for name in shared + own] == [
        True, True, False, False,
    ]  # fmt: skip


def test_on_another_disk_all_is_copied(used: Any, back_up: BackUp, other_disk: Path) -> None:
    made = back_up(used.settings, other_disk / "backup")

    assert made.shared_bytes == 0
    assert record.damaged(made.folder, made.record, lambda *_: None) == {}


def test_the_record_names_every_file(used: Any, backed_up: Path) -> None:
    kept = record.read(backed_up)

    on_disk = {
        file.relative_to(backed_up).as_posix() for file in backed_up.rglob("*") if file.is_file()
    }
    assert {*kept.files, "backup.json"} == on_disk
    assert kept.jobs == {"succeeded": 1, "running": 1}
    assert kept.checkpoints == 4
    assert kept.home == str(used.settings.home)
    assert kept.bytes == sum((backed_up / name).stat().st_size for name in kept.files)
    for name, file in kept.files.items():
        assert file.sha256 == folders.sha256(backed_up / name)


def test_what_happens_later_in_the_home_changes_no_backup(used: Any, backed_up: Path) -> None:
    shutil.rmtree(used.settings.home)

    assert record.damaged(backed_up, record.read(backed_up), lambda *_: None) == {}


def test_data_sets_are_copied_if_asked_for(used: Any, back_up: BackUp, tmp_path: Path) -> None:
    cat = used.settings.datasets / "pets" / "猫" / "1.png"
    cat.parent.mkdir(parents=True)
    cat.write_bytes(b"cat")

    without = back_up(used.settings, tmp_path / "without")
    kept = back_up(used.settings, tmp_path / "with", datasets=True)
    cat.write_bytes(b"dog")  # people write to them

    assert without.record.datasets == {}
    assert not (tmp_path / "without" / "datasets").exists()
    assert kept.record.datasets == {"pets": record.FolderRecord(files=1, bytes=3)}
    assert (tmp_path / "with" / "datasets" / "pets" / "猫" / "1.png").read_bytes() == b"cat"


def test_asking_for_data_sets_where_there_are_none(
    used: Any, back_up: BackUp, tmp_path: Path
) -> None:
    assert back_up(used.settings, tmp_path / "backup", datasets=True).record.datasets == {}


def test_a_job_whose_folder_is_gone(used: Any, back_up: BackUp, tmp_path: Path) -> None:
    shutil.rmtree(used.settings.runs / used.succeeded.job_id)

    made = back_up(used.settings, tmp_path / "backup")

    assert made.record.jobs == {"succeeded": 1, "running": 1}
    assert names(made.folder / "runs") == {used.running.job_id}


def test_what_nobody_knows_is_left_out(used: Any, back_up: BackUp, tmp_path: Path) -> None:
    root = used.settings.checkpoints
    shutil.copytree(root / used.running.best, root / "ckpt_orphan")
    (root / ".tmp-ckpt_unfinished").mkdir()
    (used.settings.runs / "job_unknown" / "state").mkdir(parents=True)
    (used.settings.home / "cache" / "large").mkdir(parents=True)

    folder = back_up(used.settings, tmp_path / "backup").folder

    assert names(folder / "checkpoints") == set(used.checkpoint_ids)
    assert names(folder / "runs") == {used.succeeded.job_id, used.running.job_id}
    assert not (folder / "cache").exists()


def test_a_checkpoint_without_files_is_left_out_and_told(
    used: Any, back_up: BackUp, tmp_path: Path
) -> None:
    shutil.rmtree(used.settings.checkpoints / used.running.best)

    made = back_up(used.settings, tmp_path / "backup")

    assert made.lost == [used.running.best]
    found = contents(made.folder)
    assert used.running.best not in found.checkpoint_ids
    assert found.without_best == frozenset()
    assert made.record.checkpoints == 3
    assert names(made.folder) == {"backup.json", "danlu.sqlite3", "checkpoints", "runs"}


def test_a_checkpoint_that_comes_and_goes_meanwhile(
    used: Any, train: Callable[..., Any], tmp_path: Path
) -> None:
    """Saved after the files were linked, and pruned after the database was copied."""
    settings, comes, stays = used.settings, [], []

    def told(what: str, _done: int, _total: int) -> None:
        if what == "database" and not comes:
            comes.append(train(settings, epochs=1, end=None))
        elif what == "checkpoints" and comes and not stays:
            database = engine.connect(settings.database)
            with engine.session_factory(database).begin() as session:
                assert checkpoints.remove(session, comes[0].best)
            database.dispose()
            shutil.rmtree(settings.checkpoints / comes[0].best)
            stays.append(train(settings, epochs=1, end=None))

    made = backup.backup(settings, tmp_path / "backup", datasets=False, told=told)

    assert stays
    assert made.lost == []
    found = contents(made.folder)
    assert found.checkpoint_ids == {*used.checkpoint_ids, stays[0].best}
    assert names(made.folder / "checkpoints") == found.checkpoint_ids
    assert found.without_best == frozenset()


def test_a_state_is_never_newer_than_its_rows(used: Any, tmp_path: Path) -> None:
    """A job that went on from such a state would leave a gap in its history."""
    state = used.settings.runs / used.running.job_id / "state" / "state.json"

    def told(what: str, _done: int, _total: int) -> None:
        if what == "database":
            state.unlink()
            state.write_text('{"epoch": 3}')

    made = backup.backup(used.settings, tmp_path / "backup", datasets=False, told=told)

    kept = made.folder / state.relative_to(used.settings.home)
    assert kept.read_text() == '{"epoch": 2}'


@contextmanager
def saving(settings: Settings, *keeps: int) -> Iterator[list[int]]:
    """Programs that save and prune; how many checkpoints each has saved, at the end."""
    programs = [
        subprocess.Popen(
            [sys.executable, str(SAVING), str(settings.home), str(keep)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for keep in keeps
    ]  # fmt: skip
    saved: list[int] = []
    try:
        for program in programs:
            assert program.stdout is not None
            assert program.stdout.readline() == "saving\n"
        yield saved
    finally:
        saved += [int(program.communicate()[0] or 0) for program in programs]
    assert all(program.returncode == 0 for program in programs)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["linked", "copied"])
def test_backups_while_jobs_save_and_prune(
    used: Any, back_up: BackUp, tmp_path: Path, elsewhere: bool, request: pytest.FixtureRequest
) -> None:
    """Whatever moment it is: each row has its files, whole, and each job its best."""
    place = request.getfixturevalue("other_disk") if elsewhere else tmp_path
    source = used.settings.checkpoints / used.running.best / "manifest.json"
    shutil.copy(source, used.settings.home / "template.json")

    with saving(used.settings, 1, 2) as saved:
        made = [back_up(used.settings, place / f"backup{number}") for number in range(10)]

    assert sum(saved) > 10, "there was nothing to get in the way of"
    for each in made:
        look_at(each)


def look_at(made: backup.Made) -> None:
    assert made.lost == []
    found = contents(made.folder)
    assert names(made.folder / "checkpoints") == found.checkpoint_ids
    assert found.without_best == frozenset()
    for name in found.checkpoint_ids:
        assert folders.fault(made.folder / "checkpoints" / name) is None
    assert record.damaged(made.folder, made.record, lambda *_: None) == {}
    rows = epochs(made.folder)
    assert len(rows) == 3, "every job at work has a checkpoint"
    for state in made.folder.glob("runs/*/state"):
        parts = {json.loads(part.read_text())["epoch"] for part in state.iterdir()}
        assert len(parts) == 1, "half of an old state and half of a new one"
        assert parts <= {*range(rows.get(state.parent.name, 2) + 2)}, "newer than its rows"


def epochs(folder: Path) -> dict[str, int]:
    """The newest epoch of each job at work."""
    with files.reading(folder / record.DATABASE) as connection:
        rows = connection.execute(
            "SELECT jobs.id, max(epoch) FROM jobs JOIN checkpoints ON jobs.id = job_id "
            "WHERE state = 'running' GROUP BY jobs.id"
        )
        return dict(rows.fetchall())


def test_it_must_not_lie_in_the_home(used: Any, back_up: BackUp) -> None:
    for target in (used.settings.home / "backup", used.settings.home):
        with pytest.raises(Refused, match="lies in") as refused:
            back_up(used.settings, target)
        assert (refused.value.code, refused.value.exit_code) == ("target_unusable", 2)


def test_it_must_not_lie_among_the_data_sets(used: Any, back_up: BackUp, tmp_path: Path) -> None:
    settings = Settings(home=used.settings.home, datasets_dir=tmp_path / "sets")

    with pytest.raises(Refused, match="lies in"):
        back_up(settings, tmp_path / "sets" / "backup")


def test_what_is_there_is_not_written_over(used: Any, back_up: BackUp, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").touch()
    (tmp_path / "file").touch()
    (tmp_path / "cut.unfinished").mkdir()

    for name, why in (("full", "there already"), ("file", "there already"), ("cut", "cut off")):
        with pytest.raises(Refused, match=why):
            back_up(used.settings, tmp_path / name)

    assert names(tmp_path / "full") == {"precious"}


def test_an_empty_folder_may_be_there(used: Any, back_up: BackUp, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    assert back_up(used.settings, tmp_path / "empty").folder == tmp_path / "empty"


def test_a_mount_point_is_refused(used: Any, back_up: BackUp) -> None:
    with pytest.raises(Refused, match="mount point") as refused:
        back_up(used.settings, Path("/proc"))
    assert refused.value.hint == "Try /proc/danlu."


def test_it_is_as_private_as_the_home(used: Any, back_up: BackUp, tmp_path: Path) -> None:
    used.settings.home.chmod(0o700)

    folder = back_up(used.settings, tmp_path / "backup").folder

    assert folder.stat().st_mode & 0o777 == 0o700


def test_there_must_be_a_home(settings: Settings, back_up: BackUp, tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        back_up(settings, tmp_path / "backup")
    assert refused.value.code == "no_home"
    assert not settings.home.exists()


def test_another_kind_of_database_is_refused(used: Any, back_up: BackUp, tmp_path: Path) -> None:
    settings = Settings(home=used.settings.home, database_url="postgresql://host/danlu")

    with pytest.raises(Refused, match="no SQLite") as refused:
        back_up(settings, tmp_path / "backup")
    assert "pg_dump" in refused.value.hint


def test_a_newer_database_is_refused(used: Any, back_up: BackUp, tmp_path: Path) -> None:
    database = sqlite3.connect(used.settings.home / "danlu.sqlite3")
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.execute("ALTER TABLE jobs RENAME TO works")
    database.commit()
    database.close()

    with pytest.raises(Problem) as refused:
        back_up(used.settings, tmp_path / "backup")
    assert refused.value.code == "database_newer"


@pytest.mark.parametrize("damage", [b"garbage " * 4096, b""], ids=["garbage", "empty"])
def test_a_database_that_is_none(used: Any, back_up: BackUp, tmp_path: Path, damage: bytes) -> None:
    (used.settings.home / "danlu.sqlite3").write_bytes(damage)

    if damage:
        with pytest.raises(Refused) as refused:
            back_up(used.settings, tmp_path / "backup")
        assert (refused.value.code, refused.value.exit_code) == ("database_damaged", 1)
        assert not (tmp_path / "backup.unfinished").exists()
    else:  # as SQLite leaves it where nobody has written yet
        assert back_up(used.settings, tmp_path / "backup").record.checkpoints == 0


def test_a_damaged_database_is_not_kept_as_if_it_were_whole(
    used: Any, back_up: BackUp, tmp_path: Path
) -> None:
    path = used.settings.home / "danlu.sqlite3"
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 8192] = b"\xff" * 8192
    path.write_bytes(data)

    with pytest.raises(Refused) as refused:
        back_up(used.settings, tmp_path / "backup")
    assert refused.value.code == "database_damaged"
    assert list(tmp_path.glob("backup*")) == []


def test_a_home_of_an_older_danlu_can_be_backed_up(
    settings: Settings, back_up: BackUp, tmp_path: Path
) -> None:
    from alembic import command
    from alembic.config import Config

    settings.home.mkdir()
    config = Config()
    config.set_main_option("script_location", str(Path(engine.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    database = engine.connect(settings.database)
    with database.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    database.dispose()

    made = back_up(settings, tmp_path / "backup")

    assert made.record.database_revision == "0001"


def test_the_home_is_left_as_it_was(used: Any, back_up: BackUp, tmp_path: Path) -> None:
    def look() -> dict[str, tuple[int, int]]:
        return {
            str(path): (path.stat().st_size, path.stat().st_mtime_ns)
            for path in used.settings.home.rglob("*")
        }

    before = look()
    back_up(used.settings, tmp_path / "backup", datasets=True)

    assert look() == before
