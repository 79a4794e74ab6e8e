from typing import Any

import httpx
import pytest

from danlu import Client, DanluError, ids

OLD = "job_01K0000000AAAAAAAAAAAAAAAA"
NEW = "job_01K0000009BBBBBBBBBBBBBBBB"
MANY = [f"job_02K000000{i}CCCCCCCCCCCCCCCC" for i in range(10)]


@pytest.fixture
def client(server: Any) -> Client:
    def page(request: httpx.Request) -> dict[str, Any]:
        found = [NEW, OLD, *MANY]
        start = int(request.url.params.get("cursor", 0))
        end = start + min(7, int(request.url.params["limit"]))
        items = [{"id": one} for one in found[start:end]]
        return {"items": items, "next_cursor": str(end) if end < len(found) else None}

    server.answers["GET /jobs"] = page
    server.answers["GET /checkpoints"] = {
        "items": [{"id": "ckpt_01K1DDDDDDDDDDDDDDDDDDDDDD"}],
        "next_cursor": None,
    }
    made: Client = server.client()
    return made


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        (OLD, OLD),
        ("last", NEW),
        ("job_01K0000000", OLD),
        ("01k0000009", NEW),
        ("02K0000009", MANY[-1]),
    ],
)
def test_a_job_by_what_people_type(client: Client, typed: str, found: str) -> None:
    assert ids.job(client, typed) == found


def test_a_whole_id_is_not_looked_up(client: Client, server: Any) -> None:
    unknown = "job_01ZZZZZZZZZZZZZZZZZZZZZZZZ"

    assert ids.job(client, unknown) == unknown
    assert server.requests == []


@pytest.mark.parametrize(
    ("typed", "code", "words"),
    [
        ("", "id_ambiguous", "12 jobs begin with ''"),
        ("job_01K", "id_ambiguous", f"2 jobs begin with 'job_01K': {NEW}, {OLD}."),
        ("nothing", "job_not_found", "No job begins with 'nothing'"),
        ("../..", "job_not_found", "No job begins"),
    ],
)
def test_what_is_not_one_job(client: Client, typed: str, code: str, words: str) -> None:
    with pytest.raises(DanluError) as caught:
        ids.job(client, typed)

    assert caught.value.code == code
    assert words in caught.value.detail
    assert caught.value.hint


def test_last_of_none(server: Any) -> None:
    server.answers["GET /jobs"] = {"items": [], "next_cursor": None}

    with pytest.raises(DanluError, match="There is no job yet"):
        ids.job(server.client(), "last")


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("last", NEW),
        ("job_01K0000000", OLD),
        ("ckpt_01k1", "ckpt_01K1DDDDDDDDDDDDDDDDDDDDDD"),
        ("cats@v2", "cats@v2"),
    ],
)
def test_a_model_is_a_job_a_checkpoint_or_a_name(client: Client, typed: str, found: str) -> None:
    assert ids.model(client, typed) == found


def test_shortened_ids_stay_apart() -> None:
    twin = OLD[:-1] + "B"

    assert ids.shorten([OLD, NEW]) == {OLD: "job_01K0000000", NEW: "job_01K0000009"}
    assert ids.shorten([OLD, twin]) == {OLD: OLD, twin: twin}
    assert ids.shorten([OLD, OLD]) == {OLD: "job_01K0000000"}
    assert ids.shorten([]) == {}
