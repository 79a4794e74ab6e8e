import os
from typing import Any

import httpx
import pytest

from danlu import Client, DanluError
from danlu.connection import connect


def test_the_owner_may_be_of_any_script(server: Any) -> None:
    server.answers["GET /system"] = {}

    server.client(user="林").system()

    assert server.last.headers.raw[-1] == (b"X-Danlu-User", "林".encode())


def test_an_owner_that_is_no_text_is_a_label_all_the_same(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", os.fsdecode(b"andr\xe9"))
    server.answers["GET /system"] = {}
    client = server.client()

    client.system()

    assert server.last.headers.raw[-1] == (b"X-Danlu-User", b"andr?")
    assert client.user == "andr?"  # as the jobs say whose they are


def test_a_problem_is_raised_with_all_it_says(server: Any, made: Any) -> None:
    errors = [{"loc": ["body", "epochs"], "msg": "at least 1"}]
    server.answers["GET /system"] = made.problem("invalid_request", 422, errors=errors)

    with pytest.raises(DanluError, match="About invalid_request") as caught:
        server.client().system()

    assert (caught.value.code, caught.value.status) == ("invalid_request", 422)
    assert (caught.value.hint, caught.value.errors) == ("Do this.", errors)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(502, text="<html>"),
        httpx.Response(200, text="<html>"),
        httpx.Response(500, json=["?"]),
        httpx.Response(404, json={"detail": "Not Found"}),
        httpx.Response(302, headers={"location": "/login"}),
    ],
)
def test_what_is_not_danlu_is_no_server(server: Any, answer: httpx.Response) -> None:
    server.answers["GET /system"] = answer

    with pytest.raises(DanluError, match="not by danlu") as caught:
        server.client().system()

    assert (caught.value.code, caught.value.status) == ("no_server", None)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (httpx.ConnectError("refused"), "No danlu server answers at http://danlu.test"),
        (httpx.ReadError("reset"), "No danlu server answers"),
        (httpx.ReadTimeout("slow"), "did not answer in time"),
    ],
)
def test_without_an_answer_there_is_no_server(server: Any, failure: Exception, words: str) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise failure

    server.answers["GET /system"] = fail

    with pytest.raises(DanluError, match=words) as caught:
        server.client().system()

    assert caught.value.code == "no_server"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("127.0.0.1:9", "http://127.0.0.1:9"),
        ("http://lab:8000/danlu/", "http://lab:8000/danlu"),
        ("https://lab", "https://lab"),
    ],
)
def test_addresses_as_people_type_them(given: str, address: str) -> None:
    with Client(given) as client:
        assert client.base_url == address


@pytest.mark.parametrize("given", ["http://lab:no", "http://[::1"])
def test_what_is_no_address_is_said_so(given: str) -> None:
    with pytest.raises(DanluError, match="is no address of a server"):
        connect(given)


def test_a_scheme_that_is_not_http_is_no_server() -> None:
    with Client("ftp://lab") as client, pytest.raises(DanluError) as caught:
        client.system()

    assert caught.value.code == "no_server"


def test_no_proxy_is_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://proxy:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    with connect("http://localhost:8000") as here, connect("http://lab:8000") as there:
        assert (here.trust_env, there.trust_env) == (False, True)
