"""Who may come in: by which name, through which proxy, from which page, with which key."""

import asyncio
import re
import socket
from typing import Any
from urllib.parse import quote

import pytest
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from app.main import create_app
from settings import Settings

PAGE = {"Accept": "text/html,application/xhtml+xml"}
MACHINE = socket.gethostname()


@pytest.fixture
def bearer(key):
    return {"Authorization": f"Bearer {key}"}


# The key


@pytest.mark.parametrize(
    "path",
    ["/jobs", "/docs", "/openapi.json", "/docs/assets/swagger-ui.css", "/nothing", "/", "/x/"],
)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_no_address_answers_without_the_key(keyed, problem, method, path):
    response = keyed.request(method, path)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    if method != "HEAD":
        problem(response, 401, "key_missing")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_who_watches_needs_no_key(keyed, path):
    assert keyed.get(path).status_code in {200, 503}  # which says what is not ready yet


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
def test_the_key_opens(keyed, key, scheme):
    assert keyed.get("/jobs", headers={"Authorization": scheme + key}).status_code == 200


@pytest.mark.parametrize(
    "wrong", ["x", "", "café", "the+key/of~these=test", "the+key/of~these=tests2"]
)
def test_a_wrong_key(keyed, problem, wrong):
    sent = {b"Authorization": b"Bearer " + wrong.encode()}
    document = problem(keyed.get("/jobs", headers=sent), 401, "key_wrong")
    assert "danlu serve" in document["hint"]


def test_other_ways_to_say_who_one_is_are_no_key(keyed, problem, key):
    problem(keyed.get("/jobs", auth=("lin", key)), 401, "key_missing")
    problem(keyed.get("/jobs", params={"key": key}), 401, "key_missing")


def test_without_a_key_a_key_does_not_matter(shared):
    assert shared.get("/jobs", headers={"Authorization": "Bearer any"}).status_code == 200


# A browser


def test_a_browser_gets_a_cookie_for_the_key_and_an_address_without_it(keyed, key):
    response = keyed.get("/docs", params={"a": "1", "key": key, "b": ""}, headers=PAGE)
    assert response.status_code == 303
    assert response.headers["location"] == "/docs?a=1&b="
    assert response.headers["cache-control"] == "no-store"
    cookie = response.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert key not in cookie


def cookie_of(keyed, key):
    response = keyed.get("/", params={"key": key}, headers=PAGE)
    return {"Cookie": response.headers["set-cookie"].partition(";")[0]}


def test_the_cookie_is_as_good_as_the_key(keyed, key):
    cookie = cookie_of(keyed, key)
    assert keyed.get("/docs", headers={**PAGE, **cookie}).status_code == 200
    assert keyed.get("/jobs", headers=cookie).status_code == 200


def test_the_cookie_of_another_key_is_none(keyed, key, problem):
    name = cookie_of(keyed, key)["Cookie"].partition("=")[0]
    for value in (key, "0" * 64):
        problem(keyed.get("/jobs", headers={"Cookie": f"{name}={value}"}), 401, "key_wrong")
    problem(keyed.get("/jobs", headers={"Cookie": f"{name}x={key}"}), 401, "key_missing")


@pytest.mark.parametrize(("query", "code"), [("", "key_missing"), ("?key=wrong", "key_wrong")])
def test_a_browser_without_the_key_is_asked_for_it(keyed, query, code):
    page = keyed.get(f"/docs{query}", headers=PAGE)
    assert page.status_code == 401
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["www-authenticate"] == "Bearer"
    assert "<form><input name=key type=password" in page.text
    assert code in page.text
    assert "set-cookie" not in page.headers


@pytest.mark.parametrize("path", ["//evil.example/", "/%5C/evil.example", "///evil.example"])
def test_the_way_on_never_leads_to_another_server(keyed, key, path):
    url = f"http://127.0.0.1{path}?key={quote(key, safe='')}"
    location = keyed.get(url, headers=PAGE).headers["location"]
    assert re.match(r"/[^/\\]", location)


def test_over_https_the_cookie_stays_there(keyed, key):
    response = keyed.get("https://127.0.0.1/", params={"key": key}, headers=PAGE)
    assert "Secure" in response.headers["set-cookie"].split("; ")


# Proxies


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For"])
def test_a_proxy_before_a_server_without_a_key(shared, keyed, problem, bearer, header):
    through = {header: "203.0.113.7"}
    document = problem(shared.get("/jobs", headers=through), 403, "proxy_without_key")
    assert "DANLU_API_KEY" in document["hint"]
    assert shared.get("/healthz", headers=through).status_code == 200
    assert keyed.get("/jobs", headers={**through, **bearer}).status_code == 200


def test_who_insists_on_no_key_has_no_proxy_either(tmp_path, serve, problem):
    with serve(Settings(home=tmp_path / "home", no_auth=True)) as running:
        response = running.get("/jobs", headers={"X-Forwarded-For": "203.0.113.7"})
        problem(response, 403, "proxy_without_key")


# Names


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:8000", "[::1]:8000", "[::1]", "192.0.2.7", "localhost:1"),
        *("LocalHost", "localhost.", "danlu.localhost:8000"),
        *(MACHINE, f"{MACHINE}:8000", f"{MACHINE.partition('.')[0]}.local"),
    ],
)
def test_names_of_the_machine(shared, host):
    assert shared.get("/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("a@localhost", "notlocalhost", "[", "::1", "danlu.lab", "x" * 5000),
    ],
)
@pytest.mark.parametrize("path", ["/jobs", "/healthz"])
def test_other_names(shared, problem, host, path):
    document = problem(shared.get(path, headers={"Host": host}), 421, "host_refused")
    assert host[:90] in document["detail"]
    assert "DANLU_ALLOWED_HOSTS=" in document["hint"]
    assert len(document["detail"]) < 200


def test_the_hint_can_be_pasted(shared, problem):
    response = shared.get("/jobs", headers={"Host": "Lab.example:8000"})
    hint = problem(response, 421, "host_refused")["hint"]
    assert hint.endswith("DANLU_ALLOWED_HOSTS=lab.example")


@pytest.mark.parametrize("host", ["danlu.lab", "DANLU.LAB:80", "a.example.org", "b.a.example.org"])
def test_names_that_are_allowed(keyed, bearer, host):
    assert keyed.get("/jobs", headers={**bearer, "Host": host}).status_code == 200


def test_part_of_a_name_is_not_allowed(keyed, bearer, problem):
    response = keyed.get("/jobs", headers={**bearer, "Host": "evil-example.org"})
    problem(response, 421, "host_refused")


@pytest.mark.parametrize("hosts", [[b"localhost", b"localhost"], [b""]])
def test_one_host_is_named(shared, problem, hosts):
    response = shared.get("/jobs", headers=[(b"Host", host) for host in hosts])
    problem(response, 421, "host_refused")


@pytest.mark.parametrize("setting", [{"allowed_hosts": "*"}, {"host": "Anything.example"}])
def test_any_name_and_the_one_it_listens_on(tmp_path, serve, setting):
    with serve(Settings(home=tmp_path / "home", **setting)) as running:
        response = running.get("/healthz", headers={"Host": "anything.example:8000"})
    assert response.status_code == 200


# Pages of other origins


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://[bad"},
        {"Origin": "http://127.0.0.1:8001"},
        {"Origin": "https://127.0.0.1:8000", "Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_page_of_another_origin_changes_nothing(shared, problem, method, headers):
    response = shared.request(method, "/jobs", headers=headers)
    problem(response, 403, "origin_refused")


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        ("127.0.0.1:8000", {"Origin": "http://127.0.0.1:8000"}),
        ("127.0.0.1", {"Origin": "http://127.0.0.1"}),
        ("localhost", {"Origin": "http://LOCALHOST"}),
        ("localhost:80", {"Origin": "http://localhost"}),
        ("localhost", {"Origin": "https://localhost"}),
        ("localhost:443", {"Origin": "https://localhost"}),
        ("[::1]:8000", {"Origin": "http://[::1]:8000", "Sec-Fetch-Site": "same-origin"}),
        # A proxy that hands its own name on, or none at all.
        ("127.0.0.1:8000", {"Origin": "https://lab.example", "Sec-Fetch-Site": "same-origin"}),
        ("127.0.0.1", {"Sec-Fetch-Site": "none"}),
        ("127.0.0.1", {}),
    ],
)
def test_its_own_pages_and_programs_do_what_they_like(shared, host, headers):
    response = shared.post(
        "/train?dry_run=true", json={"dataset": "digits"}, headers={"Host": host, **headers}
    )
    assert response.status_code == 200


def test_reading_is_left_to_browsers(shared):
    assert shared.get("/jobs", headers={"Origin": "http://evil.example"}).status_code == 200


# Websockets


def open_socket(settings: Settings, headers: dict[str, str]) -> list[dict[str, Any]]:
    """What the server says to a websocket that asks for /hello."""
    app = create_app(settings)
    said: list[dict[str, Any]] = []

    async def hello(socket: WebSocket) -> None:
        await socket.accept()

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        said.append(message)

    app.router.routes.append(WebSocketRoute("/hello", hello))
    sent = {"host": "127.0.0.1", **{name.lower(): value for name, value in headers.items()}}
    scope = {
        "type": "websocket",
        "path": "/hello",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        "server": ("127.0.0.1", 8000),
        "scheme": "ws",
    }
    asyncio.run(app(scope, receive, send))
    return said


def test_websockets_come_through_the_same_door(tmp_path, key, bearer):
    settings = Settings(home=tmp_path, api_key=key)
    [welcome] = open_socket(settings, {**bearer, "Origin": "http://127.0.0.1"})
    assert welcome["type"] == "websocket.accept"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Authorization": ""}, "key_missing"),
        ({"Authorization": "Bearer wrong"}, "key_wrong"),
        ({"Origin": "http://evil.example"}, "origin_refused"),
        ({"Host": "evil.example"}, "host_refused"),
    ],
)
def test_websockets_that_are_refused(tmp_path, key, bearer, changes, code):
    [refusal] = open_socket(Settings(home=tmp_path, api_key=key), {**bearer, **changes})
    assert refusal == {"type": "websocket.close", "code": 1008, "reason": code}
