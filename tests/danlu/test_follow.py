import io
import re
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from rich.console import Console

from danlu import Client, DanluError
from danlu.follow import figures, follow, phase

JOB = "job_01K0000000AAAAAAAAAAAAAAAA"


def plain() -> Console:
    return Console(file=io.StringIO(), width=120, highlight=False)


def text(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def run(server: Any, made: Any) -> list[dict[str, Any]]:
    """A job seen six times, and two epochs that show up on the way."""
    warning = {"code": "validation_tiny", "message": "Only 3 images."}
    evaluating = {**made.running(2)["progress"], "phase": "evaluating"}
    best = {"id": "ckpt_1", "epoch": 2, "val_accuracy": 0.95, "best": True}
    looks = [
        made.job(waiting_for="1 job is before it"),
        made.job(state="starting"),
        made.running(1, warnings=[warning]),
        made.running(2, warnings=[warning], progress=evaluating),
        made.running(2, warnings=[warning]),
        made.running(2, state="succeeded", checkpoints=[best]),
    ]
    left, epochs = iter(looks), iter([[], [], [1], [], [2], []])
    server.answers[f"GET /jobs/{JOB}"] = lambda _: next(left)
    server.answers[f"GET /jobs/{JOB}/history"] = lambda _: {
        "epochs": [made.epoch(number) for number in next(epochs)],
        "steps": [],
        "next": "here",
    }
    return looks


def test_without_a_terminal_each_thing_is_one_line(run: Any, client: Client) -> None:
    console = plain()

    job = follow(client, JOB, console)

    assert job["state"] == "succeeded"
    lines = [" ".join(line.split()) for line in text(console).splitlines()]
    epoch = "loss 0.5000 accuracy 0.800 val loss 0.4000 val accuracy 0.900 12,000 images/s"
    assert lines == [
        f"{JOB} digits mnist_net of lin",
        "starting",
        "training",
        f"epoch 1 {epoch}",
        "validation_tiny: Only 3 images.",
        "evaluating",
        f"epoch 2 {epoch}",
        "checkpoint epoch val accuracy",
        "ckpt_1 2 0.950 best",
        "succeeded best val accuracy 0.9510",
    ]


def test_a_job_that_waits_says_what_for(
    server: Any, client: Client, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(
        [
            made.job(waiting_for="a worker that is ready for it"),
            made.job(waiting_for="2 jobs ahead of it"),
            made.job(state="cancelled"),
        ]
    )
    clock = iter([0.0, 0.9, 1.1])
    monkeypatch.setattr("danlu.follow.time", SimpleNamespace(monotonic=lambda: next(clock)))
    server.answers[f"GET /jobs/{JOB}"] = lambda _: next(looks)
    server.answers[f"GET /jobs/{JOB}/history"] = {"epochs": [], "steps": [], "next": None}
    console = plain()

    follow(client, JOB, console)

    assert text(console).splitlines()[1:] == ["queued, waiting for 2 jobs ahead of it", "cancelled"]


def test_the_history_is_asked_for_from_where_it_was_left(
    run: Any, client: Client, server: Any
) -> None:
    follow(client, JOB, plain())

    asked = [r.url.params.get("since") for r in server.requests if r.url.path.endswith("history")]
    assert asked == [None, "here", "here", "here", "here", "here"]


def _away(request: httpx.Request) -> Any:
    raise httpx.ConnectError("away")


def test_a_server_that_restarts_keeps_no_epoch_back(
    server: Any, client: Client, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes between the two questions of a look, and once more when the job has ended."""
    looks = iter([made.running(1), made.running(1), made.running(2, state="succeeded")])
    first = {"epochs": [made.epoch(1)], "steps": [], "next": "here"}
    second = {"epochs": [made.epoch(2)], "steps": [], "next": "end"}
    answers = iter([None, first, None, second])
    monkeypatch.setattr("danlu.follow.LATE_SECONDS", 0.01)
    server.answers[f"GET /jobs/{JOB}"] = lambda _: next(looks)
    server.answers[f"GET /jobs/{JOB}/history"] = lambda request: next(answers) or _away(request)
    console = plain()

    assert follow(client, JOB, console)["state"] == "succeeded"

    lines = text(console).splitlines()
    assert [line.split()[1] for line in lines if line.startswith("epoch ")] == ["1", "2"]
    assert lines[-1].startswith("succeeded")


def test_how_a_job_ended_is_told_without_its_last_epochs_too(
    server: Any, client: Client, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danlu.follow.LATE_SECONDS", 0.01)
    server.answers[f"GET /jobs/{JOB}"] = made.running(2, state="succeeded")
    server.answers[f"GET /jobs/{JOB}/history"] = _away
    console = plain()

    assert follow(client, JOB, console)["state"] == "succeeded"

    assert text(console).splitlines()[-1].startswith("succeeded")


def test_a_history_that_is_refused_is_no_server_away(
    server: Any, client: Client, made: Any
) -> None:
    server.answers[f"GET /jobs/{JOB}"] = made.running(1)
    server.answers[f"GET /jobs/{JOB}/history"] = made.problem("job_not_found", 404)

    with pytest.raises(DanluError, match="job_not_found"):
        follow(client, JOB, plain())


def test_on_a_terminal_there_is_a_bar(run: Any, client: Client) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="truecolor")

    follow(client, JOB, console)

    seen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text(console))
    bar = r"epoch 3/15 [━╸╺ ]+ loss 0.213  accuracy 0.934  21,000 images/s  ETA 1:15"
    assert re.search(bar, seen)
    assert "\nstarting\n" not in seen


def test_lines_fit_a_narrow_terminal(run: Any, client: Client) -> None:
    console = Console(file=io.StringIO(), width=80)

    follow(client, JOB, console)

    epochs = [line for line in text(console).splitlines() if line.startswith("epoch ")]
    assert [line.split()[-3:] for line in epochs] == [["val", "accuracy", "0.900"]] * 2


def test_a_failure_says_why(server: Any, client: Client, made: Any) -> None:
    error = {"code": "out_of_memory", "message": "Too large.", "hint": "Try batch_size=64."}
    server.answers[f"GET /jobs/{JOB}"] = made.job(state="failed", error=error)
    server.answers[f"GET /jobs/{JOB}/history"] = {"epochs": [], "steps": [], "next": None}
    console = plain()

    assert follow(client, JOB, console)["state"] == "failed"

    assert text(console).splitlines() == [
        f"{JOB}  digits  mnist_net  of lin",
        "failed",
        "out_of_memory: Too large.",
        "  Try batch_size=64.",
    ]


def test_ctrl_c_leaves_the_terminal_as_it_was(server: Any, client: Client, made: Any) -> None:
    def interrupt(request: httpx.Request) -> Any:
        raise KeyboardInterrupt

    server.answers[f"GET /jobs/{JOB}"] = interrupt
    console = Console(file=io.StringIO(), force_terminal=True)

    with pytest.raises(KeyboardInterrupt):
        follow(client, JOB, console)

    assert text(console).rstrip().endswith("\x1b[?25h") or "\x1b[?25h" in text(console)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "queued"),
        ({"waiting_for": "a worker"}, "queued, waiting for a worker"),
        ({"state": "cancelling"}, "cancelling"),
        ({"state": "running"}, "running"),
    ],
)
def test_phases_in_words(made: Any, changes: dict[str, Any], words: str) -> None:
    assert phase(made.job(**changes)) == words


def test_a_download_shows_its_bytes(made: Any) -> None:
    job = made.job(state="running")
    job["progress"] |= {"phase": "downloading", "bytes": 12_000_000, "eta_seconds": 4000}

    assert phase(job) == "downloading"  # a data set or weights
    assert figures(job) == "12.0 MB  ETA 1:06:40"
    job["progress"]["bytes_per_second"] = 2_345_678.9
    assert figures(job) == "12.0 MB  2.3 MB/s  ETA 1:06:40"
