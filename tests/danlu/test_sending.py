"""What is sent, and what is not: the server has it, or the name is somebody else's."""

import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer

from danlu import package, sending
from danlu.errors import DanluError

IMPORT = "job_01K0000000IMP0RT0000000000"


@pytest.fixture
def pets(tmp_path: Path) -> package.Package:
    for name in ("cat/1.jpg", "dog/1.jpg"):
        (tmp_path / "pets" / name).parent.mkdir(parents=True)
        (tmp_path / "pets" / name).write_bytes(name.encode() * 99)
    return package.of(tmp_path / "pets")


def importing(server: Any, made: Any, *, state: str = "succeeded") -> None:
    """The server takes what it is sent and imports it."""
    job = made.job(id=IMPORT, kind="import", recipe=None, dataset={"name": "pets"})

    def take(request: httpx.Request) -> httpx.Response:
        server.answers["GET /datasets/pets"] = made.dataset()
        return httpx.Response(202, json=job)

    server.answers["POST /datasets"] = server.answers["PUT /datasets/pets"] = take
    server.answers["GET /datasets/pets"] = made.problem("dataset_unknown", 404)
    server.answers[f"GET /jobs/{IMPORT}"] = {**job, "state": state}
    server.answers[f"GET /jobs/{IMPORT}/history"] = {"epochs": [], "steps": [], "next": None}


def sent(server: Any) -> list[str]:
    return [f"{r.method} {r.url.path}" for r in server.requests if r.method != "GET"]


def test_a_new_data_set_is_sent_as_a_form(
    client: Any, server: Any, made: Any, pets: Any, capsys: Any
) -> None:
    importing(server, made)
    job = sending.send(client, pets)
    assert job["id"] == IMPORT
    [request] = [r for r in server.requests if r.method == "POST"]
    assert int(request.headers["content-length"]) == len(request.content)
    assert request.content.count(b"".join(pets.pieces())) == 1
    assert request.content.index(b'name="name"') < request.content.index(b'name="file"')
    said = " ".join(capsys.readouterr().out.split())
    assert "sending pets: 2 images" in said
    assert "pets 2 classes 240 train, 30 test" in said


@pytest.mark.parametrize("how", ["replace", "merge"])
def test_what_changes_a_data_set_is_sent_raw(
    client: Any, server: Any, made: Any, pets: Any, how: str
) -> None:
    importing(server, made)
    server.answers["GET /datasets/pets"] = made.dataset(archive_sha256="other")
    assert sending.send(client, pets, quiet=True, **{how: True}) is not None
    [request] = [r for r in server.requests if r.method == "PUT"]
    assert request.content == b"".join(pets.pieces())
    assert dict(request.url.params) == ({"merge": "true"} if how == "merge" else {})


def test_what_the_server_has_is_not_sent_again(
    client: Any, server: Any, made: Any, pets: Any, capsys: Any
) -> None:
    digest = hashlib.sha256(b"".join(pets.pieces())).hexdigest()
    server.answers["GET /datasets/pets"] = made.dataset(archive_sha256=digest)
    assert sending.send(client, pets) is None
    assert sent(server) == []
    assert "unchanged: nothing was sent" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("there", "words"), [({}, "with other content"), ({"origin": "built_in"}, "built-in")]
)
def test_a_name_that_is_somebody_else_s(
    client: Any, server: Any, made: Any, pets: Any, there: Any, words: str
) -> None:
    server.answers["GET /datasets/pets"] = made.dataset(**there)
    with pytest.raises(DanluError, match=words) as caught:
        sending.send(client, pets)
    assert caught.value.code == "name_taken"
    assert sent(server) == []


def test_an_import_that_fails(client: Any, server: Any, made: Any, pets: Any) -> None:
    importing(server, made, state="failed")
    with pytest.raises(typer.Exit) as caught:
        sending.send(client, pets)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("request_", "words"),
    [("POST /datasets", "keeps nothing"), (f"GET /jobs/{IMPORT}", f"danlu watch {IMPORT}")],
)
def test_ctrl_c(
    client: Any, server: Any, made: Any, pets: Any, capsys: Any, request_: str, words: str
) -> None:
    def interrupt(request: httpx.Request) -> Any:
        raise KeyboardInterrupt

    importing(server, made)
    server.answers[request_] = interrupt
    with pytest.raises(typer.Exit) as caught:
        sending.send(client, pets)
    assert caught.value.exit_code == 130
    assert words in capsys.readouterr().err


def test_other_refusals_are_told(client: Any, server: Any, made: Any, pets: Any) -> None:
    server.answers["GET /datasets/pets"] = made.problem("key_missing", 401)
    with pytest.raises(DanluError) as caught:
        sending.send(client, pets)
    assert caught.value.code == "key_missing"
