"""A home with a job that has succeeded and one at work, backups of it, and damage to both."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.admin import backup, restore
from settings import Settings


@dataclass(frozen=True)
class Used:
    """A home and what is in it; `running` was at its second epoch."""

    settings: Settings
    succeeded: Any
    running: Any

    @property
    def checkpoint_ids(self) -> list[str]:
        return [*self.succeeded.checkpoint_ids, *self.running.checkpoint_ids]


def quiet(_what: str, _done: int, _total: int) -> None:
    pass


@pytest.fixture
def used(settings: Settings, train: Callable[..., Any]) -> Used:
    succeeded = train(settings)
    running = train(settings, end=None)
    for job_id in (succeeded.job_id, running.job_id):
        run = settings.runs / job_id
        (run / "state").mkdir(parents=True)
        (run / "log.txt").write_text("epoch 1\n")
        (run / "exit.json").write_text("{}")
        (run / "state" / "state.json").write_text('{"epoch": 2}')
    (settings.runs / running.job_id / "process.json").write_text("{}")
    return Used(settings, succeeded, running)


@pytest.fixture
def back_up() -> Callable[..., backup.Made]:
    def back_up(settings: Settings, target: Path, *, datasets: bool = False) -> backup.Made:
        return backup.backup(settings, target, datasets=datasets, told=quiet)

    return back_up


@pytest.fixture
def bring_back() -> Callable[..., restore.Restored]:
    def bring_back(
        settings: Settings, source: Path, *, without_damaged: bool = False
    ) -> restore.Restored:
        return restore.restore(settings, source, without_damaged=without_damaged, told=quiet)

    return bring_back


@pytest.fixture
def backed_up(used: Used, back_up: Callable[..., backup.Made], tmp_path: Path) -> Path:
    """A backup of the used home."""
    return back_up(used.settings, tmp_path / "backup").folder


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the home's."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system")
    folder = shared / f"danlu-test-{os.getpid()}-{tmp_path.name}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def spoil() -> Callable[[Path], None]:
    """Changes one byte of a file, in a file of its own: other names of it keep what they had."""

    def spoil(file: Path) -> None:
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.unlink()
        file.write_bytes(data)

    return spoil
