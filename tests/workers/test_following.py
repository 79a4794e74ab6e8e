"""What a job asks of its followers, and when there are none. Real ones are in test_supervisor."""

from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path

import pytest

from data_store.parts import DataSet
from database.jobs import Fence
from models_store.recipe import Recipe
from problems import Problem
from workers import devices, following, processes
from workers.following import Orders
from workers.ranks import Followers
from workers.task import Task

MakeRecipe = Callable[..., Recipe]


def test_alone_nobody_is_summoned(recipe: MakeRecipe, tmp_path: Path) -> None:
    alone = Followers()

    following.check(recipe(), alone)
    data = DataSet("shapes", "v1", (), {}, skipped=())
    group = following.summon(alone, recipe(), ("cpu",), data=data, run=tmp_path)
    following.disband(alone, group, tmp_path)

    assert (group.rank, group.size) == (0, 1)
    assert list(tmp_path.iterdir()) == []


def test_more_devices_than_there_are_are_refused(recipe: MakeRecipe) -> None:
    cores = devices.cores()

    with pytest.raises(Problem) as raised:
        following.check(recipe(devices=cores + 1), Followers())

    assert raised.value.code == "device_unavailable"
    assert raised.value.detail == (
        f"The recipe wants {cores + 1} devices, and the worker has {cores}."
    )
    assert raised.value.hint == f"Give devices: {cores}, or fewer."


def test_what_goes_wrong_is_told_to_the_first_process(
    recipe: MakeRecipe,
    write_images: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "log_to", lambda _: None)
    folders = {name: tmp_path / name for name in ("cache", "checkpoints", "weights", "runs")}
    task = Task(
        fence=Fence(job_id="job_1", worker_id="w1", claim=1),
        kind="train",
        device="cpu",
        database="sqlite:///x",
        datasets=write_images("train"),
        uploads=tmp_path,
        **folders,
    )
    ours, theirs = Pipe()
    ours.send(Orders(recipe(devices=2), "cpu", 2, "another version", True))

    following.work(task, 1, theirs)

    said = ours.recv()
    assert said["state"] == "failed"
    assert said["error"]["code"] == "job_failed"
    assert said["error"]["message"] == "shapes has changed while the job began."


def test_who_is_left_alone_ends_without_a_word(tmp_path: Path) -> None:
    ours, theirs = Pipe()
    ours.close()
    folders = dict.fromkeys(("datasets", "cache", "checkpoints", "weights", "uploads"), tmp_path)
    fence = Fence(job_id="job_1", worker_id="w1", claim=1)
    task = Task(
        fence=fence, kind="train", device="cpu", database="sqlite:///x", runs=tmp_path, **folders
    )

    following.work(task, 1, theirs)

    assert list(tmp_path.iterdir()) == []
