import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from danlu import Client, cli

JOB = "job_01K0000000AAAAAAAAAAAAAAAA"


@pytest.fixture
def run(client: Client) -> Any:
    def run(*words: str) -> Result:
        return CliRunner().invoke(cli.app, words, obj=client)

    return run


@pytest.fixture
def jobs(server: Any, made: Any) -> list[dict[str, Any]]:
    items = [made.running(), made.job(id="job_01K0000009BBBBBBBBBBBBBBBB")]
    server.answers["GET /jobs"] = {"items": items, "next_cursor": None}
    return items


def one_line(found: Result) -> str:
    return " ".join(found.output.split())


def test_train_queues_what_is_typed(run: Any, server: Any, made: Any) -> None:
    server.answers["POST /train"] = httpx.Response(202, json=made.job())

    found = run("train", "mnist", "epochs=3", "optimizer.lr=0.1")

    assert found.exit_code == 0
    assert one_line(found) == f"{JOB} is queued; see it with: danlu watch last"
    assert server.last_json == {"dataset": "mnist", "epochs": 3, "optimizer": {"lr": 0.1}}


def test_train_and_follow(run: Any, server: Any, made: Any) -> None:
    server.answers["POST /train"] = httpx.Response(202, json=made.job())
    server.answers[f"GET /jobs/{JOB}"] = made.job(state="succeeded")
    server.answers[f"GET /jobs/{JOB}/history"] = {"epochs": [], "steps": [], "next": None}

    found = run("train", "mnist", "--follow")

    assert found.exit_code == 0
    assert one_line(found) == f"{JOB} digits mnist_net of lin succeeded"


def test_train_says_what_cannot_be_sent(run: Any, server: Any) -> None:
    found = run("train", "mnist", "lr=1e999")

    assert found.exit_code == 2
    assert "'lr' has a value that JSON cannot carry" in one_line(found)
    assert server.requests == []


def test_a_dry_run_shows_the_network(run: Any, server: Any) -> None:
    server.answers["POST /train"] = {
        "layers": [
            {
                "index": 0,
                "name": "model.0",
                "type": "Flatten",
                "output_shape": [784],
                "parameters": 0,
            }
        ],
        "parameters": 12345,
        "flops": 1,
        "steps": 2,
    }

    found = run("train", "mnist", "--dry-run")

    assert "Flatten" in found.output
    assert "12,345 parameters" in found.output
    assert server.last.url.query == b"dry_run=true"


def test_train_without_sense_is_usage(run: Any, server: Any) -> None:
    assert run("train").exit_code == 2
    found = run("train", "mnist", "epochs")
    assert found.exit_code == 2
    assert "'epochs' is no setting" in one_line(found)
    assert server.requests == []


@pytest.mark.parametrize(
    ("code", "status", "exit_code"),
    [
        ("dataset_unknown", 404, 2),
        ("lr_twice", 422, 2),
        ("internal", 500, 1),
        ("dataset_unavailable", 503, 1),
        ("not_ready", 503, 3),
        ("database_newer", 500, 4),
    ],
)
def test_a_refusal_says_what_and_where_and_what_to_do(
    run: Any, server: Any, made: Any, code: str, status: int, exit_code: int
) -> None:
    wrong = [
        {"loc": ["body", "optimizer", "lr"], "msg": "too [b]large[/b]"},
        {"loc": ["body"], "msg": "odd"},
    ]
    server.answers["POST /train"] = made.problem(code, status, errors=wrong)

    found = run("train", "mnist")

    assert found.exit_code == exit_code
    assert found.stdout == ""
    assert [line.strip() for line in found.stderr.splitlines()] == [
        f"{code}: About {code}.",
        "optimizer.lr: too [b]large[/b]",
        "odd",
        "Do this.",
    ]


@pytest.mark.parametrize("detail", ["too few images", "validation: too few images"])
@pytest.mark.parametrize("place", ["body", "query"])
def test_what_is_wrong_is_said_once(
    run: Any, server: Any, made: Any, detail: str, place: str
) -> None:
    wrong = [{"loc": [place, "validation"], "msg": "too few images"}]
    server.answers["POST /train"] = made.problem("odd", 422, detail=detail, errors=wrong)

    assert run("train", "mnist").stderr.count("too few images") == 1


def test_no_server_is_exit_code_3() -> None:
    found = CliRunner().invoke(cli.app, ["jobs"], env={"DANLU_URL": "http://127.0.0.1:9"})

    assert found.exit_code == 3
    assert "No danlu server answers at http://127.0.0.1:9" in found.stderr
    assert "danlu serve" in found.stderr


def test_jobs(run: Any, jobs: Any, server: Any) -> None:
    found = run("jobs", "--active", "--state", "queued", "--state", "running", "-n", "5")

    assert found.exit_code == 0
    assert JOB in found.output
    assert dict(server.last.url.params) == {
        "state": "queued,running",
        "active": "true",
        "limit": "5",
    }


@pytest.mark.parametrize("words", [["jobs"], ["checkpoints"]])
def test_an_empty_list_says_how_to_fill_it(run: Any, server: Any, words: list[str]) -> None:
    server.answers[f"GET /{words[0]}"] = {"items": [], "next_cursor": None}

    assert f"There are no {words[0]}." in run(*words).output
    assert json.loads(run(*words, "--json").output)["items"] == []


def test_a_list_that_is_empty_because_of_what_was_asked_does_not_say_there_is_nothing(
    run: Any, server: Any
) -> None:
    for path in ("jobs", "checkpoints"):
        server.answers[f"GET /{path}"] = {"items": [], "next_cursor": None}

    assert run("jobs", "--owner", "lin").output.startswith("No job is like that;")
    assert run("checkpoints", JOB).output.startswith(f"{JOB} has no checkpoints.")


@pytest.mark.parametrize("charset", ["ascii", "latin-1", "gbk"])
def test_signs_that_a_terminal_lacks_end_nothing(client: Client, jobs: Any, charset: str) -> None:
    jobs[0]["owner"] = "ñ✓林"
    runner = CliRunner(charset=charset)

    shown = runner.invoke(cli.app, ["jobs"], obj=client)
    assert (shown.exit_code, "?" in shown.stdout) == (0, True)
    whole = runner.invoke(cli.app, ["jobs", "--json"], obj=client)
    assert json.loads(whole.stdout)["items"][0]["owner"] == "ñ✓林"


def test_a_script_in_a_file_is_utf_8(client: Client, server: Any) -> None:
    server.answers[f"GET /jobs/{JOB}/script"] = httpx.Response(200, text="CLASSES = ['圆形']\n")

    found = CliRunner(charset="gbk").invoke(cli.app, ["script", JOB], obj=client)

    assert found.stdout_bytes.decode("utf-8") == "CLASSES = ['圆形']\n"


def test_watch_the_last_job(run: Any, server: Any, jobs: Any, made: Any) -> None:
    server.answers[f"GET /jobs/{JOB}"] = made.job(state="failed")
    server.answers[f"GET /jobs/{JOB}/history"] = {"epochs": [], "steps": [], "next": None}

    assert run("watch", "01K0000000").exit_code == 1
    server.answers["GET /jobs"]["items"] = jobs[:1]
    assert run("watch").exit_code == 1


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_ctrl_c_detaches(run: Any, server: Any, options: list[str]) -> None:
    def interrupt(request: httpx.Request) -> Any:
        raise KeyboardInterrupt

    server.answers[f"GET /jobs/{JOB}"] = interrupt

    found = run("watch", JOB, *options)

    assert found.exit_code == 130
    assert f"The job goes on; see it with: danlu watch {JOB}" in found.stderr


def test_cancel(run: Any, server: Any, made: Any) -> None:
    server.answers[f"POST /jobs/{JOB}/cancel"] = made.job(state="cancelling")

    assert one_line(run("cancel", JOB)) == f"{JOB} is cancelling"
    assert run("cancel").exit_code == 2


def test_logs(run: Any, server: Any) -> None:
    server.answers[f"GET /jobs/{JOB}/logs"] = httpx.Response(200, text="epoch 1\n[b]\n")

    assert run("logs", JOB).output == "epoch 1\n[b]\n"
    assert json.loads(run("logs", JOB, "--json").output) == {"text": "epoch 1\n[b]\n"}


def test_script(run: Any, server: Any) -> None:
    server.answers[f"GET /jobs/{JOB}/script"] = httpx.Response(200, text="import torch  # [b]\n")

    assert run("script", JOB).output == "import torch  # [b]\n"
    assert json.loads(run("script", JOB, "--json").output) == {"text": "import torch  # [b]\n"}


def test_checkpoints_of_a_job(run: Any, server: Any) -> None:
    item = {"id": "ckpt_1", "job_id": JOB, "epoch": 3, "val_accuracy": 0.9, "best": True}
    item |= {"disk_bytes": 88_000, "created_at": "2020-01-01T00:00:00Z"}
    server.answers["GET /checkpoints"] = {"items": [item], "next_cursor": None}

    found = run("checkpoints", JOB)

    assert f"ckpt_1 {JOB} 3 0.900 best" in one_line(found)
    assert dict(server.last.url.params) == {"job": JOB, "limit": "20"}


def test_predict(run: Any, server: Any, tmp_path: Path) -> None:
    seven = {
        "filename": "a.png",
        "label": "7",
        "probability": 0.93,
        "unknown": False,
        "top": [{"label": "7", "probability": 0.93}],
        "warnings": [],
    }
    bad = {"filename": "b.png", "error": {"code": "empty_file", "message": "It is empty."}}
    answer = {"checkpoint_id": "ckpt_1", "job_id": JOB, "model": None, "predictions": [seven]}
    server.answers["POST /predict"] = answer
    files = [str(tmp_path / name) for name in ("a.png", "b.png")]
    for file in files:
        Path(file).write_bytes(b"image")

    found = run("predict", files[0], "--model", JOB, "--top-k", "2")
    assert found.exit_code == 0
    assert "a.png 7 0.930" in one_line(found)
    assert dict(server.last.url.params) == {"model": JOB, "top_k": "2"}

    answer["predictions"] = [seven, bad]
    found = run("predict", *files)
    assert found.exit_code == 2
    assert "b.png empty_file It is empty." in one_line(found)


@pytest.mark.parametrize(
    ("words", "shown"),
    [([], "1 0.200, 2 0.100"), (["-k", "5"], "1 0.200, 2 0.100, 3 0.050, 4 0.050")],
)
def test_predict_shows_all_guesses_that_are_asked_for(
    run: Any, server: Any, tmp_path: Path, words: list[str], shown: str
) -> None:
    sure = enumerate([0.6, 0.2, 0.1, 0.05, 0.05])
    top = [{"label": str(at), "index": at, "probability": each} for at, each in sure]
    seen = {"filename": "a.png", **top[0], "unknown": False, "top": top, "warnings": []}
    answer = {"checkpoint_id": "ckpt_1", "job_id": JOB, "model": None, "predictions": [seen]}
    server.answers["POST /predict"] = answer
    (tmp_path / "a.png").write_bytes(b"image")

    found = run("predict", str(tmp_path / "a.png"), *words)

    assert one_line(found).endswith(f"a.png 0 0.600 {shown}")


def test_an_empty_model_or_job_is_not_none_at_all(
    run: Any, server: Any, jobs: Any, made: Any, tmp_path: Path
) -> None:
    server.answers["POST /predict"] = made.problem("invalid_request", 422)
    (tmp_path / "a.png").write_bytes(b"image")

    assert run("predict", str(tmp_path / "a.png"), "-m", "").exit_code == 2
    assert dict(server.last.url.params) == {"model": ""}
    found = run("checkpoints", "")
    assert found.exit_code == 2
    assert "2 jobs begin with ''" in found.stderr


def test_predict_wants_files_that_are_there(run: Any, server: Any) -> None:
    assert run("predict").exit_code == 2
    assert run("predict", "/no/such/image.png").exit_code == 2
    assert server.requests == []


def test_data_sets(run: Any, server: Any) -> None:
    item = {"name": "cats", "origin": "folder", "classes": ["a", "b"], "counts": {"train": 9}}
    item |= {"width": 9, "height": 8, "channels": 3, "available": True}
    server.answers["GET /datasets"] = {"items": [item], "next_cursor": None}

    assert "cats folder 2 9 – – 9×8 colour yes" in one_line(run("datasets"))


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["train", "mnist"], "POST /train"),
        (["train", "mnist", "--dry-run"], "POST /train"),
        (["train", "mnist", "--follow"], "POST /train"),
        (["jobs"], "GET /jobs"),
        (["watch", JOB], f"GET /jobs/{JOB}"),
        (["cancel", JOB], f"POST /jobs/{JOB}/cancel"),
        (["checkpoints"], "GET /checkpoints"),
        (["datasets"], "GET /datasets"),
    ],
)
def test_json_is_the_wire(run: Any, server: Any, made: Any, words: list[str], path: str) -> None:
    whole = {**made.job(state="succeeded"), "new": "字段"}
    whole |= {
        "items": [],
        "next_cursor": None,
        "layers": [],
        "parameters": 0,
        "flops": 0,
        "steps": 0,
    }
    server.answers[path] = server.answers[f"GET /jobs/{JOB}"] = whole

    found = run(*words, "--json")

    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout) == whole
    assert "字段" in found.stdout


FULL = Path("/dev/full")  # a disk that is always full; Linux has it, macOS does not


@pytest.mark.skipif(not FULL.exists(), reason="only a system with /dev/full can play a full disk")
def test_output_that_finds_no_room_ends_in_a_sentence() -> None:
    command = [sys.executable, "-m", "danlu", "--help"]
    with FULL.open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "danlu: what it says cannot be written: No space left on device\n"


def test_the_module_is_the_command() -> None:
    ran = [
        subprocess.run([sys.executable, "-m", "danlu", *words], capture_output=True, text=True)
        for words in (["--version"], ["--help"])
    ]

    assert [one.returncode for one in ran] == [0, 0]
    assert ran[0].stdout[0].isdigit()
    for command in (
        "serve",
        "worker",
        "demo",
        "train",
        "jobs",
        "watch",
        "cancel",
        "logs",
        "script",
    ):
        assert command in ran[1].stdout


@pytest.mark.parametrize("code", ["key_missing", "key_wrong"])
def test_a_server_that_wants_a_key(run: Any, server: Any, made: Any, code: str) -> None:
    server.answers["GET /jobs"] = made.problem(code, 401)

    found = run("jobs")

    assert found.exit_code == 2
    assert code in found.output
    assert "Set DANLU_API_KEY" in found.output


@pytest.mark.parametrize(
    "words",
    [
        ("datasets", "show"),
        ("datasets", "delete"),
        ("models", "show"),
        ("models", "set", "production"),
        ("jobs", "--dataset"),
    ],
)
def test_a_name_that_is_no_utf8_ends_in_a_sentence(run: Any, words: tuple[str, ...]) -> None:
    found = run(*words, "caf\udce9")
    assert found.exit_code == 2
    assert "caf\\udce9" in found.stderr
    assert "is no UTF-8" in found.stderr
