"""A report on a terminal."""

import io
import json
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from danlu import cli, report
from danlu.errors import DanluError

JOB = "job_01K0000000AAAAAAAAAAAAAAAA"
CHECKPOINT = "ckpt_01K0000000BBBBBBBBBBBBBBBB"


def made(classes: int = 2, **given: Any) -> Any:
    return {
        "format": 1,
        "checkpoint_id": CHECKPOINT,
        "dataset": {"name": "pets", "version": None},
        "judged_on": "validation",
        "count": 1200,
        "accuracy": 0.91234,
        "top5_accuracy": None,
        "averages": {"precision": 0.9, "recall": 0.9, "f1": 0.9051},
        "classes": [
            {"index": n, "label": f"[b]猫{n}", "precision": 0.9, "recall": None, "f1": n / 50}
            | {"support": 600}
            for n in range(classes)
        ],
        "confusion": [],
        "calibration": {"temperature": 1.75, "ece_before": 0.08, "ece_after": 0.0123},
        "mistakes": [
            {"part": "val", "index": n, "label": "cat", "predicted": "dog", "probability": 0.99}
            for n in range(20)
        ],
        "parity": None,
        **given,
    }


def shown(what: Any) -> list[str]:
    written = io.StringIO()
    Console(file=written, width=120, highlight=False).print(report.shown(what))
    return [" ".join(line.split()) for line in written.getvalue().splitlines()]


def test_figures_classes_and_mistakes_are_shown() -> None:
    assert shown(made()) == [
        f"{CHECKPOINT} accuracy 0.9123 F1 0.9051 on 1,200 validation images",
        "calibration error 0.0800, 0.0123 with the temperature 1.750",
        "class precision recall F1 images",
        "[b]猫0 0.900 – 0.000 600",
        "[b]猫1 0.900 – 0.020 600",
        "surest mistakes is taken for probability",
        *[f"val {n} cat dog 0.990" for n in range(5)],
    ]


def test_what_there_is_not_is_left_out() -> None:
    lines = shown(made(top5_accuracy=0.99, calibration=None, mistakes=[]))

    assert "top 5 0.9900" in lines[0]
    assert len(lines) == 4


def test_of_many_classes_the_worst_are_shown() -> None:
    lines = shown(made(classes=40, mistakes=[]))

    assert lines[2] == "the worst of 40 classes precision recall F1 images"
    assert [line.split()[0] for line in lines[3:]] == [f"[b]猫{n}" for n in range(10)]


def test_a_job_stands_for_its_best_checkpoint(server: Any) -> None:
    server.answers[f"GET /jobs/{JOB}"] = {"id": JOB, "best_checkpoint_id": CHECKPOINT}
    server.answers[f"GET /checkpoints/{CHECKPOINT}/report"] = made()

    def run(*words: str) -> Result:
        return CliRunner().invoke(cli.app, ["report", *words], obj=server.client())

    assert CHECKPOINT in run(JOB).output
    assert json.loads(run(CHECKPOINT, "--json").output) == made()


@pytest.mark.parametrize(
    ("kind", "state", "detail", "hint"),
    [
        ("train", "running", "has no checkpoint; it is running", "Wait for its end."),
        ("train", "failed", "has no checkpoint; it is failed", "Give another job or a checkpoint."),
        ("import", "running", "it is a job of kind import", "Give another job or a checkpoint."),
    ],
)
def test_a_job_without_a_checkpoint_has_no_report(
    server: Any, kind: str, state: str, detail: str, hint: str
) -> None:
    server.answers[f"GET /jobs/{JOB}"] = {
        "id": JOB, "kind": kind, "best_checkpoint_id": None, "state": state,
    }  # fmt: skip

    with pytest.raises(DanluError, match=detail) as caught:
        report.checkpoint(server.client(), JOB)
    assert caught.value.hint == hint
