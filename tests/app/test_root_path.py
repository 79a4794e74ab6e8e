"""Below a path: whether the proxy leaves it on or cuts it off, every address leads to its place."""

import re
from collections.abc import Iterator
from urllib.parse import urljoin

import pytest

from app.main import create_app
from settings import Settings


@pytest.fixture(scope="module")
def below(serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    with serve(Settings(home=tmp_path_factory.mktemp("home"), root_path="/lab/danlu/")) as server:
        yield server


# What the server sees when the proxy has left the path on, and when it has cut it off.
ways = pytest.mark.parametrize("seen", ["/lab/danlu", ""], ids=["left on", "cut off"])


@ways
@pytest.mark.parametrize(
    "path", ["/healthz", "/architectures/mnist_net", "/docs/assets/favicon.png"]
)
def test_addresses_lead_where_they_should(below, seen, path):
    assert below.get(seen + path).status_code == 200


@ways
def test_locations_begin_with_the_path(below, seen):
    job = below.post(f"{seen}/train", json={"dataset": "digits"})

    assert job.headers["location"] == f"/lab/danlu/jobs/{job.json()['id']}"
    assert below.get(job.headers["location"]).json()["id"] == job.json()["id"]
    assert below.get(f"{seen}/").headers["location"] == "/lab/danlu/docs"


@ways
def test_addresses_of_images_begin_with_the_path(below, seen):
    (image,) = below.get(f"{seen}/datasets/digits/images?limit=1").json()["items"]

    assert image["url"] == "/lab/danlu/datasets/digits/images/train/0"
    assert below.get(image["url"]).headers["content-type"] == "image/png"


@ways
@pytest.mark.parametrize("path", ["/nowhere", "/jobs/job_1", "/docs/assets/nothing.js"])
def test_problems_lead_to_their_pages(below, seen, path):
    problem = below.get(seen + path).json()

    assert problem["type"] == f"/lab/danlu/docs/errors/{problem['code']}"
    assert below.get(problem["type"]).status_code == 200


@ways
@pytest.mark.parametrize("path", ["/docs", "/redoc", "/docs/errors/not_found"])
def test_pages_find_their_files(below, seen, path):
    page = below.get(seen + path).text
    links = re.findall(r"""(?:src|href|spec-url|url)[=:] ?["']?([\w/.-]+)""", page)

    assert links
    # As a browser resolves them, which knows the address before the proxy.
    addresses = [urljoin(f"/lab/danlu{path}", link) for link in links]
    assert [below.get(address).status_code for address in addresses] == [200] * len(links)
    assert all(address.startswith("/lab/danlu/") for address in addresses)


@ways
def test_the_document_names_the_path(below, seen):
    assert below.get(f"{seen}/openapi.json").json()["servers"] == [{"url": "/lab/danlu"}]


@ways
def test_limits_hold_below_a_path(below, seen):
    image = b"x" * 2_000_000

    assert below.post(f"{seen}/train", content=image).json()["code"] == "body_too_large"
    assert below.post(f"{seen}/predict", content=image).json()["code"] != "body_too_large"


def test_a_path_that_only_begins_alike_is_another(below):
    assert below.get("/lab/danluette/healthz").status_code == 404


def test_without_a_path_nothing_changes(server):
    job = server.post("/train", json={"dataset": "digits"})

    assert job.headers["location"] == f"/jobs/{job.json()['id']}"
    assert server.get("/nowhere").json()["type"] == "/docs/errors/not_found"
    assert "servers" not in create_app(server.settings).openapi()
