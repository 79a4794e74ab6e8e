"""Which parts of a file are sent, and what is said of those that cannot be."""

import asyncio

import httpx
import pytest

from app.ranges import Download


@pytest.fixture
def get(tmp_path):
    """What a file of ten letters gives for these headers."""
    path = tmp_path / "letters"
    path.write_bytes(b"abcdefghij")

    async def get(headers: dict[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(Download(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.get("/", headers=headers)

    return lambda **headers: asyncio.run(
        get({name.replace("_", "-"): value for name, value in headers.items()})
    )


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("bytes=2-4", b"cde"), ("bytes=7-", b"hij"), ("bytes=-2", b"ij"), ("bytes=8-99", b"ij"),
        ("Bytes=0-0", b"a"), ("bytes=0-1, 1-2", b"abc"),
    ],
)  # fmt: skip
def test_a_part(get, asked, sent):
    response = get(Range=asked)
    assert (response.status_code, response.content) == (206, sent)


@pytest.mark.parametrize(
    "asked",
    ["", "bytes", "bytes=", "bytes=-", "bytes=x", "bytes=5-2", "bytes=1-2,x", "lines=1-2",
     "bytes=1-2-3", "bytes=+1-2", f"bytes={'9' * 5000}-{'9' * 5000}"],
)  # fmt: skip
def test_what_is_no_range_is_ignored(get, asked):
    response = get(Range=asked)
    assert (response.status_code, response.content) == (200, b"abcdefghij")


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_past_the_end(get, asked):
    response = get(Range=asked)
    assert response.status_code == 416
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["content-range"] == "bytes */10"
    assert response.json()["code"] == "range_not_satisfiable"


def test_of_another_file_there_are_no_parts(get):
    response = get(Range="bytes=99-", If_Range='"another"')
    assert (response.status_code, response.content) == (200, b"abcdefghij")


def test_files_of_the_documentation_too(shared, problem):
    url = "/docs/assets/favicon.png"
    assert shared.get(url, headers={"Range": "items=0-1"}).status_code == 200
    problem(shared.get(url, headers={"Range": "bytes=999999999-"}), 416, "range_not_satisfiable")
