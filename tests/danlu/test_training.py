import hashlib
import os
import shlex
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from danlu import Client, cli, package, training

JOB = "job_01K0000000AAAAAAAAAAAAAAAA"
IMPORT = "job_01K0000000IMP0RT0000000000"


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("cat/1.jpg", "dog/1.jpg"):
        (tmp_path / "pets" / name).parent.mkdir(parents=True)
        (tmp_path / "pets" / name).write_bytes(name.encode() * 99)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "pets"


@pytest.fixture
def run(client: Client) -> Any:
    def run(*words: str) -> Result:
        return CliRunner().invoke(cli.app, ["train", *words], obj=client)

    return run


@pytest.fixture
def there(server: Any, made: Any, pets: Path) -> dict[str, Any]:
    """The server has the folder already, and trains on it."""
    digest = hashlib.sha256(b"".join(package.of(pets).pieces())).hexdigest()
    known: dict[str, Any] = made.dataset(archive_sha256=digest)
    server.answers["GET /datasets/pets"] = known
    done = made.job(state="succeeded", dataset={"name": "pets"})
    server.answers["POST /train"] = httpx.Response(202, json=made.job())
    server.answers[f"GET /jobs/{JOB}"] = done
    server.answers[f"GET /jobs/{JOB}/history"] = {"epochs": [], "steps": [], "next": None}
    imported = made.job(id=IMPORT, kind="import", recipe=None, owner="lin", state="succeeded")
    server.answers[f"GET /jobs/{IMPORT}"] = imported
    server.answers[f"GET /jobs/{IMPORT}/history"] = {"epochs": [], "steps": [], "next": None}
    server.answers["PUT /datasets/pets"] = httpx.Response(202, json=imported)
    return known


def one_line(found: Result) -> str:
    return " ".join(found.output.split())


def test_a_folder_is_trained_on_and_followed(run: Any, server: Any, there: Any) -> None:
    found = run("./pets", "epochs=3")
    assert found.exit_code == 0, found.output
    [asked] = [r for r in server.requests if r.url.path == "/train"]
    assert httpx.Response(200, content=asked.content).json() == {"dataset": "pets", "epochs": 3}
    lines = [line.strip() for line in found.output.splitlines()]
    assert f"curl -F file=@pets/cat/1.jpg 'http://danlu.test/predict?model={JOB}'" in lines
    assert any(line.endswith(f"danlu script {JOB} > pets.py") for line in lines)


def test_a_folder_whose_name_is_no_text_needs_another(run: Any, server: Any, pets: Path) -> None:
    pets.rename(os.fsdecode(b"caf\xe9"))
    found = run(os.fsdecode(b"./caf\xe9"))
    assert found.exit_code == 2
    assert "--as" in one_line(found)
    assert server.requests == []


def test_a_folder_that_changed_replaces_what_the_same_owner_sent(
    run: Any, server: Any, there: Any, made: Any
) -> None:
    there["archive_sha256"] = "other"
    found = run("pets/", "--no-follow")
    assert found.exit_code == 0, found.output
    assert "its images take the place" in one_line(found)
    assert "PUT /datasets/pets" in [f"{r.method} {r.url.path}" for r in server.requests]
    assert one_line(found).endswith("is queued; see it with: danlu watch last")


@pytest.mark.parametrize("whose", ["another owner", "a deleted job", "nobody"])
def test_what_somebody_else_has_is_left_alone(
    run: Any, server: Any, there: Any, made: Any, whose: str
) -> None:
    there["archive_sha256"] = "other"
    if whose == "nobody":
        there["job_id"] = None
    elif whose == "a deleted job":
        server.answers[f"GET /jobs/{IMPORT}"] = made.problem("job_not_found", 404)
    else:
        server.answers[f"GET /jobs/{IMPORT}"]["owner"] = "mei"
    found = run("./pets")
    assert found.exit_code == 2
    assert "name_taken" in found.output
    assert "--as" in found.output
    assert {r.method for r in server.requests} == {"GET"}


def test_json_is_the_job(run: Any, there: Any) -> None:
    found = run("./pets", "--json")
    assert found.exit_code == 0
    assert found.stdout.startswith("{\n")
    assert f'"id": "{JOB}"' in found.stdout


def test_a_dry_run_needs_the_set_on_the_server(
    run: Any, server: Any, there: Any, made: Any
) -> None:
    server.answers["POST /train"] = {"layers": [], "parameters": 5, "flops": 1, "steps": 2}
    assert "5 parameters" in run("./pets", "--dry-run").output
    server.answers["GET /datasets/pets"] = made.problem("dataset_unknown", 404)
    found = run("./pets", "--dry-run")
    assert found.exit_code == 2
    assert "danlu datasets add pets" in found.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["./missing"], "no folder or archive"),
        (["./pets", "epochs"], "is no setting"),
        (["./pets", "dataset=digits"], "--as names it"),
        (["digits", "--as", "pets"], "digits is none"),
        (["pets.rar"], "does not read .rar"),
    ],
)
def test_what_makes_no_sense_is_usage(
    run: Any, server: Any, pets: Path, words: list[str], said: str
) -> None:
    (pets.parent / "pets.rar").write_bytes(b"Rar!")
    found = run(*words)
    assert found.exit_code == 2
    assert said in one_line(found)
    assert server.requests == []


def test_a_bare_word_that_is_a_folder_here(run: Any, server: Any, made: Any, pets: Path) -> None:
    server.answers["POST /train"] = made.problem("dataset_unknown", 404)
    assert "danlu train ./pets" in one_line(run("pets"))


@pytest.mark.parametrize("name", ['it\'s; a, "b"', "$(x) `y`", "猫 \\ 犬", "-f"])
def test_names_that_shells_and_curl_would_take_apart(
    client: Client, made: Any, tmp_path: Path, name: str
) -> None:
    (tmp_path / name / "a").mkdir(parents=True)
    (tmp_path / name / "a" / "1.png").write_bytes(b"x")
    line = training.curl(client, package.of(tmp_path / name), made.job())
    [_, flag, form, address] = shlex.split(line)
    assert flag == "-F"
    assert address == f"http://danlu.test/predict?model={JOB}"
    path = str(tmp_path / name / "a" / "1.png")
    assert form == f"file=@{path}" or form[7:-1].replace("\\\\", "\\").replace('\\"', '"') == path


@pytest.mark.parametrize(
    ("variables", "shell"),
    [
        ({"DANLU_API_KEY": "plum"}, "$DANLU_API_KEY"),
        ({"DANLU_API_KEY_FILE": "key"}, '$(cat "$DANLU_API_KEY_FILE")'),
        ({"DANLU_URL": "http://a/?key=plum"}, "${DANLU_URL##*key=}"),
    ],
)
def test_the_key_is_not_shown(
    server: Any, made: Any, pets: Path, monkeypatch: Any, variables: Any, shell: str
) -> None:
    (pets.parent / "key").write_text("plum")
    for name in ("DANLU_API_KEY", "DANLU_API_KEY_FILE", "DANLU_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    line = training.curl(server.client(), package.of(pets), made.job())
    assert f'-H "Authorization: Bearer {shell}"' in line
    assert "plum" not in line


def test_of_an_archive_the_server_hands_an_image_out(
    client: Client, server: Any, made: Any, tmp_path: Path
) -> None:
    (tmp_path / "pets.zip").write_bytes(b"zip")
    image = {"index": 0, "label": "cat", "url": "/datasets/pets/images/train/0"}
    server.answers["GET /datasets/pets/images"] = {"items": [image], "next_cursor": None}
    line = training.curl(client, package.of(tmp_path / "pets.zip"), made.job())
    assert line == (
        "curl -s http://danlu.test/datasets/pets/images/train/0 | "
        f"curl -F file=@- 'http://danlu.test/predict?model={JOB}'"
    )
