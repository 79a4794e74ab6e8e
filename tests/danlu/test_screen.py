import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from danlu import screen


def shown(thing: Any, width: int = 120) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(thing)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return [" ".join(line.split()) for line in lines]


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_843_200, "1.8 MB"),
        (5_000_000_000, "5.0 GB"),
        (3 * 10**15, "3000.0 TB"),
    ],
)
def test_sizes(count: int, words: str) -> None:
    assert screen.size(count) == words


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        ("2026-01-02T12:00:05Z", "0 s ago"),  # a clock that runs ahead of ours
        ("2026-01-02T11:59:18Z", "42 s ago"),
        ("2026-01-02T11:57:00Z", "3 min ago"),
        ("2026-01-02T04:00:00+00:00", "8 h ago"),
        ("2025-12-30T12:00:00Z", "3 d ago"),
    ],
)
def test_ages(moment: str, words: str) -> None:
    assert screen.age(moment, now=datetime(2026, 1, 2, 12, tzinfo=UTC)) == words


def test_jobs_are_shown_whatever_is_not_known_yet(made: Any) -> None:
    queued = made.job(recipe=None, owner="林", dataset={"name": "[b]猫", "version": None})
    table = screen.jobs([made.running(id="job_01K9", owner="lin"), queued], full_ids=False)

    head, running, waiting = shown(table)

    assert head.split()[:3] == ["job", "state", "data"]
    assert running.split()[:6] == ["job_01K9", "running", "digits", "mnist_net", "3/15", "0.951"]
    assert waiting.split()[:7] == ["job_01K0000000", "queued", "[b]猫", "–", "–", "–", "林"]


def test_a_network_of_ones_own_has_no_name(made: Any) -> None:
    own = made.job(recipe={"architecture": {"layers": [{"type": "Flatten"}, {"type": "Linear"}]}})

    assert "own" in shown(screen.jobs([own], full_ids=False))[1].split()


def test_programs_get_whole_ids(made: Any) -> None:
    assert made.job()["id"] in shown(screen.jobs([made.job()], full_ids=True))[1]


def test_ids_can_be_copied_from_a_narrow_terminal(made: Any) -> None:
    job = {**made.job(), "recipe": {"architecture": "mobilenet_v3_small"}}
    lines = shown(screen.jobs([job], full_ids=False), width=80)
    assert sum(screen.ids.shorten([job["id"]])[job["id"]] in line.split() for line in lines) == 1

    pointing = {
        "checkpoint_id": "ckpt_01K0000000AAAAAAAAAAAAAAAA",
        "job_id": "job_01K0000000AAAAAAAAAAAAAAAA",
        "updated_at": "2020-01-01T00:00:00Z",
        "updated_by": "somebody",
    }
    model: Any = {"history": [pointing]}  # no more of it is shown
    lines = shown(screen.pointings(model), width=80)
    assert any(
        line.startswith(f"{pointing['checkpoint_id']} {pointing['job_id']} ") for line in lines
    )


def test_checkpoints() -> None:
    best: Any = {
        "id": "ckpt_01K0000000AAAAAAAAAAAAAAAA",
        "job_id": "job_01K0000000AAAAAAAAAAAAAAAA",
        "epoch": 12,
        "val_accuracy": 0.96432,
        "best": True,
        "disk_bytes": 88_000,
        "created_at": "2020-01-01T00:00:00Z",
    }
    other: Any = {**best, "id": "ckpt_02", "best": False, "val_accuracy": None}

    imported: Any = {**other, "id": "ckpt_03", "job_id": None, "epoch": 0}

    _, first, second, third = shown(screen.checkpoints([best, other, imported], full_ids=False))

    assert first.startswith("ckpt_01K0000000 job_01K0000000 12 0.964 best 88.0 kB ")
    assert second.startswith("ckpt_02 job_01K0000000 12 – 88.0 kB ")
    assert third.startswith("ckpt_03 imported – – 88.0 kB ")


def test_data_sets() -> None:
    mnist: Any = {
        "name": "mnist",
        "origin": "built_in",
        "classes": list("0123456789"),
        "counts": {"train": 60000, "test": 10000},
        "height": 28,
        "width": 28,
        "channels": 1,
        "available": False,
    }
    cats = {**mnist, "name": "cats", "origin": "folder", "channels": 3, "available": True}

    _, first, second = shown(screen.datasets([mnist, cats]))

    assert first == "mnist built in 10 60,000 – 10,000 28×28 grey to be downloaded"
    assert second == "cats folder 10 60,000 – 10,000 28×28 colour yes"


def test_a_plan_shows_each_layer() -> None:
    layer: Any = {
        "index": 0,
        "name": "model.0",
        "type": "Conv2d",
        "output_shape": [32, 28, 28],
        "parameters": 832,
    }
    plan: Any = {"recipe": {}, "layers": [layer], "parameters": 832, "flops": 9, "steps": 4690}

    lines = shown(screen.plan(plan))

    assert lines[1] == "0 model.0 Conv2d 32×28×28 832"
    assert "4,690 steps" in lines[2]


def test_predictions() -> None:
    seven: Any = {
        "filename": "folder/a.png",
        "label": "7",
        "index": 7,
        "probability": 0.93,
        "unknown": False,
        "top": [
            {"label": "7", "index": 7, "probability": 0.93},
            {"label": "1", "index": 1, "probability": 0.04},
        ],
        "warnings": ["inverted"],
    }
    unsure = {**seven, "unknown": True, "warnings": []}
    bad: Any = {"filename": None, "error": {"code": "empty_file", "message": "It is empty."}}

    _, first, second, third = shown(screen.predictions([seven, unsure, bad]))

    assert first == "a.png 7 0.930 1 0.040 inverted"
    assert second == "a.png 7 (unsure) 0.930 1 0.040"
    assert third == "– empty_file It is empty."


def test_a_job_that_trains_nothing_says_what_it_does(made: Any) -> None:
    job = made.job(kind="import", recipe=None)

    assert shown(screen.jobs([job], full_ids=False))[1].split()[3] == "import"
