"""`danlu models`: lists, shows, sets, rolls back and deletes aliases."""

import json
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from danlu import Client, cli

CHECKPOINT = "ckpt_01K9ZC4B2M8Y6S0FJQ3KXGT7PD"
BEFORE = "ckpt_01K9YT7Q5N0W2C4E6R8A1B3DFH"
JOB = "job_01K9ZC3V9QH5N7X1B8TDA4RWEM"


def pointing(checkpoint_id: str) -> dict[str, Any]:
    return {
        "checkpoint_id": checkpoint_id,
        "job_id": JOB,
        "updated_at": "2026-11-23T08:00:10Z",
        "updated_by": "林",
    }


@pytest.fixture
def run(client: Client) -> Any:
    def run(*words: str) -> Result:
        return CliRunner().invoke(cli.app, ["models", *words], obj=client)

    return run


@pytest.fixture
def model() -> dict[str, Any]:
    return {
        "alias": "production",
        "classes": ["a", "b"],
        "input": "1x28x28",
        "accuracy": 0.9444,
        "warm": True,
        **pointing(CHECKPOINT),
        "history": [pointing(CHECKPOINT), pointing(BEFORE)],
    }


def test_the_list(server: Any, run: Any, model: dict[str, Any]) -> None:
    damaged = model | {"alias": "old", "input": None, "job_id": None, "warm": False}
    server.answers["GET /models"] = {"items": [model, damaged], "next_cursor": None}
    shown = run()
    assert shown.exit_code == 0
    first, second = shown.stdout.splitlines()[-2:]
    for word in ("production", CHECKPOINT, JOB, "0.944", "1x28x28", "warm", "林"):
        assert word in first
    assert "imported" in second
    assert "damaged" in second


def test_a_long_list_is_shown_whole(server: Any, run: Any, model: dict[str, Any]) -> None:
    def page(request: httpx.Request) -> dict[str, Any]:
        rest = "cursor" in request.url.params
        item = model | {"alias": "second" if rest else "first"}
        return {"items": [item], "next_cursor": None if rest else "second"}

    server.answers["GET /models"] = page
    assert [line.split()[0] for line in run().stdout.splitlines()[-2:]] == ["first", "second"]
    assert len(json.loads(run("--json").stdout)["items"]) == 2


def test_an_empty_list_says_what_to_do(server: Any, run: Any) -> None:
    server.answers["GET /models"] = {"items": [], "next_cursor": None}
    assert "danlu models set production last" in run().stdout
    assert json.loads(run("--json").stdout)["items"] == []


def test_show(server: Any, run: Any, model: dict[str, Any]) -> None:
    server.answers["GET /models/production"] = model
    first, second = run("show", "production").stdout.splitlines()[-2:]
    assert CHECKPOINT in first
    assert "now" in first
    assert BEFORE in second
    assert "now" not in second


def test_set(server: Any, run: Any, model: dict[str, Any]) -> None:
    server.answers["PUT /models/production"] = model
    shown = run("set", "production", CHECKPOINT)
    assert f"production points at {CHECKPOINT}" in shown.stdout
    assert json.loads(server.last.content) == {"checkpoint": CHECKPOINT}


def test_roll_back(server: Any, run: Any, model: dict[str, Any]) -> None:
    server.answers["GET /models/production"] = model
    server.answers["PUT /models/production"] = model
    assert run("rollback", "production").exit_code == 0
    assert json.loads(server.last.content) == {"checkpoint": BEFORE}
    server.answers["GET /models/production"] = model | {"history": [pointing(CHECKPOINT)]}
    refused = run("rollback", "production")
    assert refused.exit_code == 2
    assert "nothing else" in refused.stderr


def test_delete(server: Any, run: Any) -> None:
    server.answers["DELETE /models/production"] = httpx.Response(204)
    assert "production is deleted" in run("delete", "production").stdout
