import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from danlu import Client, cli


@pytest.fixture
def run(client: Client) -> Any:
    def run(*words: str) -> Result:
        return CliRunner().invoke(cli.app, ["datasets", *words], obj=client)

    return run


def one_line(found: Result) -> str:
    return " ".join(found.output.split())


def test_add(run: Any, server: Any, made: Any, tmp_path: Path) -> None:
    (tmp_path / "pets.zip").write_bytes(b"zip")
    job = made.job(kind="import", recipe=None, state="succeeded")

    def take(request: httpx.Request) -> httpx.Response:
        server.answers["GET /datasets/my%20pets"] = made.dataset("my pets")
        return httpx.Response(202, json=job)

    server.answers["POST /datasets"] = server.answers["PUT /datasets/my%20pets"] = take
    server.answers["GET /datasets/my%20pets"] = made.problem("dataset_unknown", 404)
    server.answers[f"GET /jobs/{job['id']}"] = job
    server.answers[f"GET /jobs/{job['id']}/history"] = {"epochs": [], "steps": [], "next": None}
    found = run("add", "my pets", str(tmp_path / "pets.zip"))
    assert found.exit_code == 0, found.output
    assert "my pets 2 classes" in one_line(found)
    for how in ("--merge", "--replace"):
        assert run("add", "my pets", str(tmp_path / "pets.zip"), how).exit_code == 0
    found = run("add", "my pets", str(tmp_path / "pets.zip"), "--replace", "--json")
    assert json.loads(found.output)["name"] == "my pets"


def test_add_wants_one_way_and_something_to_send(run: Any, server: Any, tmp_path: Path) -> None:
    (tmp_path / "pets.zip").write_bytes(b"zip")
    assert run("add", "pets", str(tmp_path / "pets.zip"), "--merge", "--replace").exit_code == 2
    found = run("add", "pets", str(tmp_path / "missing"))
    assert found.exit_code == 2
    assert "files_unusable" in found.output
    assert server.requests == []


def test_a_name_that_cannot_be_one_or_is_taken(
    run: Any, server: Any, made: Any, tmp_path: Path
) -> None:
    archive = tmp_path / "pets.zip"
    archive.write_bytes(b"zip")
    slash = one_line(run("add", "my/pets", str(archive)))
    assert "has a slash" in slash
    assert server.requests == []

    wrong = [{"loc": ["body", "name"], "msg": "it begins with a dot"}]
    server.answers["POST /datasets"] = made.problem("invalid_request", 422, errors=wrong)
    server.answers["GET /datasets/.pets"] = made.problem("dataset_unknown", 404)
    assert "Do this. Give yours another NAME." in one_line(run("add", ".pets", str(archive)))
    server.answers["GET /datasets/pets"] = made.dataset(origin="built_in")
    taken = one_line(run("add", "pets", str(archive)))
    assert "Give yours another NAME." in taken
    assert "--as" not in taken


def test_show(run: Any, server: Any, made: Any) -> None:
    server.answers["GET /datasets/pets"] = made.dataset()
    assert "pets 2 classes 240 train, 30 test 640×480 colour cat, dog" in one_line(
        run("show", "pets")
    )
    assert json.loads(run("show", "pets", "--json").output) == made.dataset()


def test_delete(run: Any, server: Any, made: Any) -> None:
    server.answers["DELETE /datasets/pets"] = httpx.Response(204)
    assert one_line(run("delete", "pets")) == "pets is deleted"
    assert json.loads(run("delete", "pets", "--json").output) == {"name": "pets", "deleted": True}
    server.answers["DELETE /datasets/pets"] = made.problem("dataset_in_use", 409)
    assert run("delete", "pets").exit_code == 2
