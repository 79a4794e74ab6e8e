from functools import partial
from typing import Any

import httpx
import pytest

from danlu import Client, DanluError, pages


@pytest.fixture
def client(server: Any) -> Client:
    """Of a server with 450 aliases."""

    def page(request: httpx.Request) -> dict[str, Any]:
        start = int(request.url.params.get("cursor", 0))
        end = start + int(request.url.params["limit"])
        items = [{"alias": str(index)} for index in range(start, min(end, 450))]
        return {"items": items, "next_cursor": str(end) if end < 450 else None}

    server.answers["GET /models"] = page
    made: Client = server.client()
    return made


def test_every_item_of_a_list_in_its_order(client: Client, server: Any) -> None:
    assert [one["alias"] for one in pages.every(client.models)] == [str(i) for i in range(450)]
    assert [one.url.query for one in server.requests] == [
        *(b"limit=200", b"limit=200&cursor=200", b"limit=200&cursor=400")
    ]


def test_pages_are_asked_for_when_they_are_needed(client: Client, server: Any) -> None:
    assert next(pages.every(client.models))["alias"] == "0"
    assert len(server.requests) == 1


def test_what_else_is_asked_goes_into_each_question(client: Client, server: Any) -> None:
    server.answers["GET /datasets/pets/images"] = server.answers["GET /models"]
    images = partial(client.dataset_images, "pets")
    assert len(list(pages.every(images, split="test"))) == 450
    assert {one.url.params["split"] for one in server.requests} == {"test"}


def test_a_list_as_one_page(client: Client) -> None:
    page = pages.whole(client.models)
    assert (len(page["items"]), page["next_cursor"]) == (450, None)


def test_an_error_is_not_the_end_of_a_list(client: Client, server: Any) -> None:
    items = pages.every(client.models)
    next(items)
    del server.answers["GET /models"]
    with pytest.raises(DanluError):
        list(items)
